"""Whether an exported file says what the torch module says, on real inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas.core.errors import NasError
from nas.core.task import Task
from nas.hardware.runtimes import Opened, Runtime, opened

# Largest difference allowed, relative to the largest output: sums of thousands of products in
# another order differ by some hundred units in the last place of the type. `codes`: float32 that
# rounds to whole codes on its way, some of which turn over by that (up to 1.2e-2 was seen).
THRESHOLDS: Mapping[str, float] = {
    "float32": 1e-3, "tf32": 1e-2, "float16": 2e-2, "bfloat16": 5e-2, "codes": 5e-2, "int8": 0.25,
}  # fmt: skip

# Least share of examples with the same class: a tie may fall either way in any arithmetic.
AGREEMENT: Mapping[str, float] = {
    "float32": 0.99, "tf32": 0.98, "float16": 0.98, "bfloat16": 0.97, "codes": 0.97, "int8": 0.90,
}  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from its torch module.

    Args:
        max_abs, mean_abs: largest and mean difference of an output.
        relative: `max_abs` over the largest torch output.
        top1_agreement: share of examples with the same largest output, where the outputs are a
            list of classes; None otherwise.
        n: examples compared.
        passed: whether `relative` is at most `threshold`, and the agreement, where there is one,
            at least `least_agreement`.
        threshold, least_agreement: the limits for the file's precision.
    """

    max_abs: float
    mean_abs: float
    relative: float
    top1_agreement: float | None
    n: int
    passed: bool
    threshold: float
    least_agreement: float = 0.0

    @property
    def excess(self) -> tuple[str, float]:
        """The limit that is broken most, and by what share of itself; at most 0 where none is.

        >>> compare(np.array([[1.0, 2.0]]), np.array([[1.0, 2.2]]), 0.05).excess[0]
        'error<=0.05'
        """
        limits = [(f"error<={self.threshold:g}", self.relative / self.threshold - 1)]
        if self.top1_agreement is not None and self.least_agreement:
            short = 1 - self.top1_agreement / self.least_agreement
            limits.append((f"agreement>={self.least_agreement:g}", short))
        return max(limits, key=lambda pair: pair[1])

    @property
    def said(self) -> str:
        """The differences in words, with the limits."""
        agrees, least = self.top1_agreement, self.least_agreement
        classes = ""
        if agrees is not None:
            classes = f", the same class for {agrees:.1%} of {self.n} (at least {least:.0%})"
        return (
            f"largest difference {self.relative:.2g} of the largest output "
            f"(at most {self.threshold:g}){classes}"
        )

    def to_json(self) -> dict[str, Any]:
        """The plain data that is stored and shipped."""
        return asdict(self)


def check(
    module: nn.Module,
    file: Path,
    inputs: NDArray[np.float32] | torch.Tensor | Task,
    precision: str = "float32",
    run: Opened | None = None,
) -> Parity:
    """Compares an exported file with its module, in evaluation: `run`, or under onnxruntime.

    `inputs` is `(N, *input)`, or a task, of which the first 256 validation examples are taken.
    """
    taken = validation_inputs(inputs, 256) if isinstance(inputs, Task) else inputs
    examples = np.ascontiguousarray(taken, np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(examples)).double().numpy()
    run = run or opened(file, Runtime("onnxruntime"))
    found = np.asarray(run(examples), np.float64)
    return compare(expected, found, THRESHOLDS[precision], AGREEMENT[precision])


def compare(
    expected: NDArray[np.float64],
    found: NDArray[np.float64],
    threshold: float,
    least_agreement: float = 0.0,
) -> Parity:
    """The differences of two arrays of outputs, one row for each example.

    Raises: NasError where their shapes differ or an output is not a finite number.

    >>> compare(np.array([[1.0, 2.0]]), np.array([[1.0, 2.001]]), 1e-2).passed
    True
    """
    if expected.shape != found.shape:
        raise NasError(
            f"the file gives outputs {found.shape}, the module {expected.shape}",
            "export the module again",
        )
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise NasError(
            "the network's outputs are not finite numbers", "train it again with a lower rate"
        )
    difference = np.abs(expected - found)
    scale = float(np.abs(expected).max())
    largest = float(difference.max())
    relative = largest / scale if scale else largest
    agreement = None
    if expected.ndim == 2:
        agreement = float((expected.argmax(1) == found.argmax(1)).mean())
    return Parity(
        max_abs=largest,
        mean_abs=float(difference.mean()),
        relative=relative,
        top1_agreement=agreement,
        n=len(expected),
        passed=relative <= threshold and (agreement is None or agreement >= least_agreement),
        threshold=threshold,
        least_agreement=least_agreement,
    )


def validation_inputs(task: Task, count: int) -> NDArray[np.float32]:
    """The first `count` inputs of the validation split, `(N, *input)`."""
    taken: list[NDArray[np.float32]] = []
    for inputs, _ in task.batches("validation", 0):
        taken.append(inputs.contiguous().cpu().numpy())
        if sum(map(len, taken)) >= count:
            break
    return np.ascontiguousarray(np.concatenate(taken)[:count])
