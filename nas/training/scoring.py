"""What a network is worth on images it was not trained on, with the doubt of that number.

Validation is in two parts. The search ranks on the positions that 3 does not divide; the third
that it divides is kept to confirm a front, so that the front's numbers are of images that no
decision was made on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from nas.core.task import Task

Part = Literal["search", "confirm", "all"]
Step = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Score:
    """A score in the task's reported unit, its standard error, and how many examples it is of."""

    score: float
    se: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes."""
        return {"score": self.score, "se": self.se, "n": self.n}


def score(
    predict: Callable[[Tensor], Any],
    task: Task,
    parts: Sequence[Part] = ("search", "confirm"),
    split: str = "validation",
    step: Step = nullcontext,
) -> dict[Part, Score]:
    """The score of each part of a split.

    Args:
        predict: outputs of a batch of inputs; a module in evaluation, or an exported file.
        step: entered around each batch, so that a timing can come in between.
    """
    seen: dict[Part, list[tuple[Tensor, int]]] = {part: [] for part in parts}
    position = 0
    batches = iter(task.batches(split, 0))
    with torch.no_grad():
        while True:
            with step():
                batch = next(batches, None)
                if batch is None:
                    break
                position += _take(batch, position, predict, task, seen)
    return {part: summary(values, task.score_scale) for part, values in seen.items()}


def _take(
    batch: tuple[Tensor, Any],
    position: int,
    predict: Callable[[Tensor], Any],
    task: Task,
    seen: dict[Part, list[tuple[Tensor, int]]],
) -> int:
    """Scores one batch into `seen`; only the examples that a part asks for are predicted."""
    inputs, targets = batch
    third = (position + torch.arange(len(inputs))) % 3 == 0
    masks: dict[Part, Tensor] = {"search": ~third, "confirm": third, "all": third | ~third}
    wanted = torch.zeros_like(third)
    for part in seen:
        wanted |= masks[part]
    if not bool(wanted.any()):
        return len(inputs)
    output = predict(inputs if bool(wanted.all()) else inputs[wanted])
    for part, values in seen.items():
        mask = masks[part]
        count = int(mask.sum())
        if count:
            answer = task.score(rows(output, mask[wanted]), rows(targets, mask))
            values.append((torch.as_tensor(answer).detach().double().cpu(), count))
    return len(inputs)


def rows(tree: Any, mask: Tensor) -> Any:
    """The examples of a batch under a mask; a batch may be a tensor, or lists and dicts of them."""
    if isinstance(tree, Tensor):
        return tree[mask.to(tree.device)]
    if isinstance(tree, dict):
        return {key: rows(value, mask) for key, value in tree.items()}
    kept = [i for i, keep in enumerate(mask.tolist()) if keep]
    if isinstance(tree, tuple | list) and len(tree) == len(mask):
        return type(tree)(tree[i] for i in kept)
    if isinstance(tree, tuple | list):
        return type(tree)(rows(value, mask) for value in tree)
    return tree


def summary(values: Sequence[tuple[Tensor, int]], scale: float) -> Score:
    """One score of many: `values` are scores of examples `(B,)`, or of a batch, with its count.

    The standard error of yes-or-no scores is that of (k + 2) / (n + 4), two examples added on each
    side (Agresti and Coull 1998), so that it is not zero when all are right. Other scores have the
    standard error of their mean; where there is one value only, the value itself is the doubt.
    """
    count = sum(n for _, n in values)
    if not count:
        return Score(0.0, abs(scale), 0)
    weights = np.array([n for value, n in values for _ in range(1 if not value.ndim else n)])
    each = np.concatenate([value.reshape(-1).numpy() for value, _ in values])
    if len(each) == count:
        weights = np.ones(count)
    mean = float(np.average(each, weights=weights))
    if np.isin(each, (0.0, 1.0)).all() and len(each) == count:
        share = (float(each.sum()) + 2) / (count + 4)
        se = math.sqrt(share * (1 - share) / (count + 4))
    elif len(each) > 1:
        se = float(each.std(ddof=1)) / math.sqrt(len(each))
    else:
        se = abs(mean)
    return Score(mean * scale, se * abs(scale), count)


def of_module(module: nn.Module) -> Callable[[Tensor], Any]:
    """`predict` of a module on its own device, answers on the processor; put it in evaluation."""
    held = next(module.parameters(), None)
    device = torch.device("cpu") if held is None else held.device
    return lambda inputs: tree_map_only(Tensor, Tensor.cpu, module(inputs.to(device)))


def of_file(run: Callable[[Any], Any]) -> Callable[[Tensor], Tensor]:
    """`predict` of a file, given what runs it on arrays."""
    return lambda inputs: torch.from_numpy(run(inputs.contiguous().numpy()))
