"""What a candidate is trained for: a task owns its data, head, loss and score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Goal = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Task:
    """A task at work: tensors in, tensors out. `--task PKG.MOD:FN` is a function that returns one.

    Args:
        input: shape of one example without the batch, `(C, H, W)` for an image.
        outputs: size of the network's last axis (classes, regression targets, ...).
        batches: `batches(split, seed)` yields `(input, target)` tensor pairs; `split` is "train",
            "validation" or "test". Same seed, same batches, in every process. Validation must come
            in a fixed order whatever the seed: a third of it is kept for the confirmation phase.
        loss: `loss(output, target)`, a scalar tensor to minimise.
        score: `score(output, target)`, one number for each example `(B,)`, or one for the batch.
        score_name: name of the score as an objective.
        goal: whether the score is maximised or minimised.
        score_unit: unit of the score.
        score_scale: what a score is multiplied by when it is reported (100 for percent).
        examples: how many labelled examples there are in all splits; 0 where that is not known.
        digest: content hash of the data; results are shared between studies only where it agrees.
        classes: names of the outputs, where they have names.
        normalisation: `mean` and `std` per channel that `batches` has already applied.
        calibration: number of training examples to calibrate static quantization with.
        parts: sizes of consecutive slices of the outputs that are tasks of their own, where the
            examples have several answers each; empty for one task.
    """

    input: tuple[int, ...]
    outputs: int
    batches: Callable[[str, int], Iterable[tuple[Any, Any]]]
    loss: Callable[[Any, Any], Any]
    score: Callable[[Any, Any], Any]
    score_name: str = "accuracy"
    goal: Goal = "maximize"
    score_unit: str = "%"
    score_scale: float = 100.0
    examples: int = 0
    digest: str = ""
    classes: tuple[str, ...] = ()
    normalisation: Mapping[str, tuple[float, ...]] | None = None
    calibration: int = 128
    parts: tuple[int, ...] = ()

    def spec(self, source: str) -> TaskSpec:
        """What the rest of the program knows of this task, as data."""
        return TaskSpec(
            source=source,
            input=tuple(self.input),
            outputs=self.outputs,
            score_name=self.score_name,
            score_unit=self.score_unit,
            goal=self.goal,
            examples=self.examples,
            digest=self.digest,
            parts=tuple(self.parts),
        )


@dataclass(frozen=True)
class TaskSpec:
    """A task as data: what spaces, objectives and the database need to know of it.

    `source` is what the user typed: `digits`, `folder:PATH`, `hf:NAME` or `PKG.MOD:FN`.
    """

    source: str
    input: tuple[int, ...]
    outputs: int
    score_name: str = "accuracy"
    score_unit: str = "%"
    goal: Goal = "maximize"
    examples: int = 0
    digest: str = ""
    parts: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        return {**asdict(self), "input": list(self.input), "parts": list(self.parts)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskSpec:
        """The spec that `to_json` wrote."""
        parts = tuple(data.get("parts", ()))
        return cls(**{**data, "input": tuple(data["input"]), "parts": parts})
