"""The training of a chosen point to its end: from the search's weights, with a strong recipe.

It is `nas.training.train` with more around the loss. A checkpoint is left after every epoch, and
training goes on from it bit for bit, on one thread and one machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.training import checkpoint, precision
from nas.training.averaging import Averaged
from nas.training.distill import distilling
from nas.training.ingredients import regularise
from nas.training.mixing import mixing
from nas.training.products import quick
from nas.training.recipe import Strong
from nas.training.scoring import Step
from nas.training.train import RungReport, beside, train
from nas.transforms.stages import Addition

GAIN = 0.9  # bfloat16 is taken where a step needs less than this share of the time
_TRIED = 4


@dataclass(frozen=True)
class EveryEpoch(Fidelity):
    """A training that reports after every epoch."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """1, 2, ... to the last."""
        return tuple(range(1, self.epochs + 1))


def finish(
    module: nn.Module,
    task: Task,
    recipe: Strong,
    seed: int,
    *,
    kept: Path,
    teacher: nn.Module | None = None,
    on_epoch: Callable[[RungReport], None],
    step: Step = nullcontext,
    additions: Sequence[Addition] = (),
) -> nn.Module:
    """Trains a module from the weights it has; returns the averaged network, in evaluation.

    Args:
        module: in its training form.
        kept: the checkpoint of this very training, replaced after each epoch; where it is there
            already, training goes on from it. Its folder exists.
        teacher: whose outputs the student learns too, on the same inputs.
        on_epoch: told of each epoch; the checkpoint it names is `kept`.
        step: entered around each step and each scored batch.
        additions: what the module's transforms add; they come first.

    Raises: NasError where training diverges, or `kept` is of another training.
    """
    lower = recipe.precision == "bfloat16"  # whoever leaves it open asks `quicker` first
    plain = replace(recipe.plain, precision="bfloat16" if lower else "float32")
    seen = checkpoint.about(kept) if kept.exists() else {}
    regularise(module, recipe.plain.drop_path, recipe.plain.dropout)
    both = Averaged(module, recipe.average)
    parts = [*additions]
    if teacher is not None:
        parts.append(distilling(teacher, recipe.distilled, recipe.temperature))
    parts.append(mixing(recipe))
    parts.append(Addition(after=both.follow))

    def reached(rung: RungReport) -> bool:
        os.replace(rung.checkpoint, kept)
        on_epoch(rung)
        return True

    done = int(seen.get("epochs", 0))
    train(
        both, task, plain, EveryEpoch(recipe.epochs), seed, folder=kept.parent,
        start=kept if done else None, from_rung=done - 1, on_rung=reached, step=step,
        additions=parts,
    )  # fmt: skip
    for own, kept_of_it in zip(both.network.parameters(), both.average.parameters(), strict=True):
        kept_of_it.requires_grad_(own.requires_grad)  # what comes next may ask for gradients
    return both.average.eval()


def quicker(module: nn.Module, task: Task, step: Step = nullcontext) -> str:
    """`bfloat16` where training steps of the module take clearly less time in it than `float32`.

    A few steps of both are timed in turn, the quickest of each counts; the module keeps its
    weights, but norms see some more batches.
    """
    inputs, target = beside(module, *next(iter(task.batches("train", 0))))

    took = {"float32": float("inf"), "bfloat16": float("inf")}
    module.train()
    with quick(module):
        for name in [*took] * _TRIED:
            with step():
                start = time.perf_counter()
                with precision.within(name == "bfloat16", inputs.device):
                    output = module(inputs)
                task.loss(precision.widened(output), target).backward()
                if inputs.is_cuda:
                    torch.cuda.synchronize(inputs.device)
                took[name] = min(took[name], time.perf_counter() - start)
                module.zero_grad(set_to_none=True)
    return "bfloat16" if took["bfloat16"] < GAIN * took["float32"] else "float32"
