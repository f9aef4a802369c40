"""What an axis does to a network, stage by stage, and the one order in which stages are applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from nas.core.errors import NasError
from nas.core.task import Task, TaskSpec
from nas.transforms.fold import fold
from nas.transforms.report import Report

Examples = Callable[[int], Tensor]
Criterion = Callable[[nn.Module, Tensor, Any], Tensor]
Batches = Callable[[], Iterable[tuple[Tensor, Any]]]

OLD: dict[Any, str] = {WeightNorm: "weight_norm", SpectralNorm: "spectral_norm"}
# Who comes first in each stage: widths before branches before adapters, scales last of all.
ORDER = ("sparsity", "dilation", "adapter", "bitwidth")


@dataclass(frozen=True)
class Given:
    """What a stage may look at: the task, and training examples without their targets.

    `examples(n)` returns `(n, *task.input)`, the same ones at every call; `pretrained` says whether
    the module's weights were given, so that they are worth keeping. `reference()` builds the
    network as the study's own seed makes it, before any stage: what decides shapes looks at that
    one, so that repeats under other seeds have the same. `kernels` are those that the device has
    under its runtime beyond dense ones, such as `2:4`. `batch` is the most examples that the study
    times in one call; None where bytes count too, and what saves no time is of use. `grown()` are
    networks of the same space that are one step larger, untrained, by the decision that makes them
    so. `shapes` says that nothing but shapes of what is made will be looked at, so that what only
    numbers depend on may be anything.
    """

    task: Task | TaskSpec
    examples: Examples
    seed: int = 0
    pretrained: bool = False
    reference: Callable[[], nn.Module] | None = None
    kernels: tuple[str, ...] = ()
    batch: int | None = None
    grown: Callable[[], Mapping[str, Callable[[], nn.Module]]] | None = None
    shapes: bool = False


@dataclass(frozen=True)
class Addition:
    """What is added to plain training; a part that is None adds nothing.

    State lives in buffers of the module, so that a training that is resumed goes on with it.

    Args:
        criterion: given the loss so far, `loss(module, inputs, target)`, returns the one to use.
        after: called after every step of the optimizer, while the gradients are still there, with
            the share of the whole training that is over, 1 after the last step.
        begin: called once before the first step, with the optimizer: whoever fixes weights must
            fix what the optimizer remembers of them as well.
    """

    criterion: Callable[[Criterion], Criterion] | None = None
    after: Callable[[float], None] | None = None
    begin: Callable[[torch.optim.Optimizer], None] | None = None


@dataclass(frozen=True)
class Transform:
    """One axis's part; a stage that is None does nothing.

    Args:
        name: the axis's.
        recipe: before training: given the recipe as plain data, returns the one to train with.
        prepare: before training: changes the module or returns another, and says what it did.
        during: for the training: what is added to it.
        finish: after training: merges and removes for good, in place or in another module.
        write: on the exported file: reads the first path, writes the second.
        judge: on the trained module: what else can be said of it from some batches of examples
            with their targets, which no training saw.
    """

    name: str
    prepare: Callable[[nn.Module, Given], tuple[nn.Module, Report]] | None = None
    during: Callable[[nn.Module, Given], Addition] | None = None
    finish: Callable[[nn.Module, Given], tuple[nn.Module, Report]] | None = None
    write: Callable[[Path, Path, Given], Report] | None = None
    judge: Callable[[nn.Module, Given, Batches], Report] | None = None
    recipe: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def ordered(transforms: Sequence[Transform]) -> list[Transform]:
    """The transforms in the order in which each stage applies them, however they were named.

    One that is not shipped comes before the bit-widths: scales are chosen last.
    """

    def place(transform: Transform) -> float:
        last = len(ORDER) - 1
        return ORDER.index(transform.name) if transform.name in ORDER else last - 0.5

    return sorted(transforms, key=place)


def finishing(transforms: Sequence[Transform]) -> list[Transform]:
    """The transforms in the order in which they finish: what came last is merged first.

    Bit-widths come behind all of them: bits are for the weights that are left.
    """
    return sorted(reversed(ordered(transforms)), key=lambda t: t.name == ORDER[-1])


def _copyable(module: nn.Module) -> None:
    """Refuses weights that hooks compute before each call: torch does not copy them."""
    for path, layer in module.named_modules():
        for hook in layer._forward_pre_hooks.values():
            name = OLD.get(type(hook))
            if name is not None:
                raise NasError(
                    f"{path} has torch's old {name}, with which a network cannot be copied",
                    f"write torch.nn.utils.parametrizations.{name} instead",
                )


@dataclass(frozen=True)
class Pipeline:
    """The stages of several transforms, each applied in its one order."""

    transforms: Sequence[Transform]
    given: Given

    @property
    def writes(self) -> bool:
        """Whether the exported file is changed, so that its graph is not the module's."""
        return any(t.write for t in self.transforms)

    def recipe(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """The recipe to train with, as plain data, where `said` is the study's."""
        for transform in ordered(self.transforms):
            said = transform.recipe(said) if transform.recipe else said
        return said

    def prepare(self, module: nn.Module) -> tuple[nn.Module, list[Report]]:
        """The module in its training form. Raises: NasError where it cannot be copied."""
        _copyable(module)
        reports = []
        for transform in ordered(self.transforms):
            if transform.prepare is not None:
                module, report = transform.prepare(module, self.given)
                reports.append(report)
        return module, reports

    def during(self, module: nn.Module) -> list[Addition]:
        """What is added to the training of a prepared module."""
        return [t.during(module, self.given) for t in ordered(self.transforms) if t.during]

    def deploy(self, module: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, list[Report]]:
        """A deployed copy of a trained module: what was put in is merged, then all is folded."""
        reports = []
        if any(t.finish for t in self.transforms):
            module = deepcopy(module)
        for transform in finishing(self.transforms):
            if transform.finish is not None:
                module, report = transform.finish(module, self.given)
                reports.append(report)
        deployed, report = fold(module, shape)
        return deployed, [*reports, report]

    def write(self, path: Path) -> list[Report]:
        """Changes an exported file in place."""
        reports = []
        for transform in ordered(self.transforms):
            if transform.write is not None:
                changed = path.with_name(f"{path.stem}-{transform.name}{path.suffix}")
                reports.append(transform.write(path, changed, self.given))
                changed.replace(path)
        return reports

    def judge(self, module: nn.Module, task: Task, batches: Batches) -> list[Report]:
        """What else is said of a trained module, from examples that no training saw."""
        given = replace(self.given, task=task)
        return [t.judge(module, given, batches) for t in ordered(self.transforms) if t.judge]
