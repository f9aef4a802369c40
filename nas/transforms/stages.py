"""What an axis does to a network, stage by stage, and the one order in which stages are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from nas.core.task import Task, TaskSpec
from nas.transforms.report import Report

Examples = Callable[[int], Tensor]
AfterStep = Callable[[float], None]

# Who comes first in each stage: widths before branches before adapters, scales last of all.
ORDER = ("sparsity", "dilation", "adapter", "bitwidth")


@dataclass(frozen=True)
class Given:
    """What a stage may look at: the task, and training examples without their targets.

    `examples(n)` returns `(n, *task.input)`, the same ones at every call.
    """

    task: Task | TaskSpec
    examples: Examples
    seed: int = 0


@dataclass(frozen=True)
class Transform:
    """One axis's part; a stage that is None does nothing.

    Args:
        name: the axis's.
        prepare: before training: changes the module or returns another, and says what it did.
        during: before training too: returns what is called after every step of the optimizer with
            the share of the training that is over.
        finish: after training: merges and removes for good, in place or in another module.
        write: on the exported file: reads the first path, writes the second.
    """

    name: str
    prepare: Callable[[nn.Module, Given], tuple[nn.Module, Report]] | None = None
    during: Callable[[nn.Module, Given], AfterStep] | None = None
    finish: Callable[[nn.Module, Given], tuple[nn.Module, Report]] | None = None
    write: Callable[[Path, Path, Given], Report] | None = None


def ordered(transforms: Sequence[Transform]) -> list[Transform]:
    """The transforms in the order in which each stage applies them, however they were named.

    One that is not shipped comes before the bit-widths: scales are chosen last.
    """

    def place(transform: Transform) -> float:
        last = len(ORDER) - 1
        return ORDER.index(transform.name) if transform.name in ORDER else last - 0.5

    return sorted(transforms, key=place)


def prepare(
    module: nn.Module, transforms: Sequence[Transform], given: Given
) -> tuple[nn.Module, list[Report]]:
    """The module in its training form."""
    reports = []
    for transform in ordered(transforms):
        if transform.prepare is not None:
            module, report = transform.prepare(module, given)
            reports.append(report)
    return module, reports


def during(module: nn.Module, transforms: Sequence[Transform], given: Given) -> AfterStep:
    """What to call after every step of the optimizer."""
    after = [t.during(module, given) for t in ordered(transforms) if t.during is not None]

    def call(share: float) -> None:
        for each in after:
            each(share)

    return call


def finish(
    module: nn.Module, transforms: Sequence[Transform], given: Given
) -> tuple[nn.Module, list[Report]]:
    """The trained module in the form that is folded and exported."""
    reports = []
    for transform in reversed(ordered(transforms)):  # adapters merge before anything is removed
        if transform.finish is not None:
            module, report = transform.finish(module, given)
            reports.append(report)
    return module, reports


def write(path: Path, transforms: Sequence[Transform], given: Given) -> list[Report]:
    """Changes an exported file in place."""
    reports = []
    for transform in ordered(transforms):
        if transform.write is not None:
            changed = path.with_name(f"{path.stem}-{transform.name}{path.suffix}")
            reports.append(transform.write(path, changed, given))
            changed.replace(path)
    return reports
