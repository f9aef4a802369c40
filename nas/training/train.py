"""Brief training: from rung to rung, stopped and resumed without a trace.

Everything random in an epoch is made of the seed and the epoch's number, and the learning rate of
the step's number. A training that goes on from a checkpoint is therefore, on one thread and one
machine, bit for bit the training that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.core.architecture import digest
from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.training import checkpoint
from nas.training.recipe import Recipe
from nas.training.scoring import Score, Step, of_module, score

_CHECK_EVERY = 16


@dataclass(frozen=True)
class RungReport:
    """A training that reached a rung.

    `score` is in the task's reported unit, of the search's two thirds of validation, in the
    training form; `n` is how many examples that is; `checkpoint` resumes from here.
    """

    rung: int
    epochs: int
    score: float
    n: int
    checkpoint: Path


def train(
    module: nn.Module,
    task: Task,
    recipe: Recipe,
    fidelity: Fidelity,
    seed: int,
    *,
    folder: Path,
    start: Path | None = None,
    from_rung: int = -1,
    to_rung: int | None = None,
    on_rung: Callable[[RungReport], bool],
    step: Step = nullcontext,
) -> tuple[RungReport, ...]:
    """Trains a module in place and returns what was reported.

    Args:
        module: freshly built under the same seed, on the device to train on.
        folder: where checkpoints are written, `rung-0.safetensors` and so on.
        start: the checkpoint that `from_rung` left; None with `from_rung` -1.
        to_rung: the last rung to reach, by default the last there is.
        on_rung: told of each rung reached; training ends early where it returns False. It may
            move the checkpoint away.
        step: entered around each step and each scored batch (the device's lease).

    Raises: NasError where the loss is no longer a number, or the checkpoint is of another training.
    """
    rungs = fidelity.rungs
    last = len(rungs) - 1 if to_rung is None else to_rung
    identity = digest(
        {"recipe": recipe.to_json(), "fidelity": fidelity.to_json(), "data": task.digest,
         "seed": seed}
    )  # fmt: skip
    module.to(memory_format=torch.channels_last)
    optimizer = _optimizer(module, recipe)
    done = rungs[from_rung] if from_rung >= 0 else 0
    if start is not None:
        _resume(start, module, optimizer, identity, done)
    elif done:
        raise NasError(f"rung {from_rung} left no checkpoint", "train from rung -1")
    reports = []
    with torch.random.fork_rng():
        for epoch in range(done, rungs[last]):
            _epoch(module, task, recipe, fidelity, seed, epoch, optimizer, step)
            if epoch + 1 in rungs:
                rung = rungs.index(epoch + 1)
                found = validation_score(module, task, step)
                path = folder / f"rung-{rung}.safetensors"
                checkpoint.save(path, module, optimizer, {"epochs": epoch + 1, "of": identity})
                reports.append(RungReport(rung, epoch + 1, found.score, found.n, path))
                if not on_rung(reports[-1]):
                    break
    module.eval()
    return tuple(reports)


def validation_score(module: nn.Module, task: Task, step: Step = nullcontext) -> Score:
    """The score of a module as it is, on the search's part of validation."""
    module.eval()
    return score(of_module(module), task, ("search",), step=step)["search"]


def _resume(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, identity: str, epochs: int
) -> None:
    said = checkpoint.about(path)
    if said.get("of") != identity or said.get("epochs") != epochs:
        raise NasError(
            f"the checkpoint {path} is of another training: it says {said}",
            f"name one of {epochs} epochs of the same recipe, fidelity, data and seed",
        )
    checkpoint.restore(path, module, optimizer)


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.rate)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of one epoch: the same everywhere, and unlike any other epoch's."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def steps_in(batches: Iterable[object], share: float) -> int:
    """How many batches of an epoch are trained on: the first `share` of them, at least one.

    >>> steps_in(range(29), 0.5), steps_in(range(29), 1.0), steps_in(range(3), 0.01)
    (15, 29, 1)
    """
    total = len(batches) if hasattr(batches, "__len__") else sum(1 for _ in batches)
    if not total:
        raise NasError("the task gives no training batch", "give more data or smaller batches")
    return max(1, math.ceil(total * share - 1e-9))


def _epoch(
    module: nn.Module,
    task: Task,
    recipe: Recipe,
    fidelity: Fidelity,
    seed: int,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    step: Step,
) -> None:
    module.train()
    own = epoch_seed(seed, epoch)
    torch.manual_seed(own)
    count = steps_in(task.batches("train", own), fidelity.data)
    batches = iter(task.batches("train", own))
    parameters = [p for p in module.parameters() if p.requires_grad]
    device = parameters[0].device
    health = torch.zeros((), device=device)
    for number in range(count):
        # The middle of the step, so that neither the first nor the last is without effect.
        share = (epoch + (number + 0.5) / count) / fidelity.epochs
        with step():
            inputs, target = next(batches)
            rate = recipe.rate_at(share)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = task.loss(module(inputs.to(device)), _on(target, device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            health += loss.detach() + norm
        if number % _CHECK_EVERY == 0 or number == count - 1:
            _check(health, epoch, rate)


def _check(health: Tensor, epoch: int, rate: float) -> None:
    """Raises: NasError once a loss or a gradient was infinite or not a number."""
    if not math.isfinite(float(health)):
        raise NasError(
            f"training diverged in epoch {epoch + 1}, at a learning rate of {rate:.2g}: "
            "the loss or its gradient is not a finite number",
            "lower the recipe's rate, or leave this architecture out",
        )


def _on(target: object, device: torch.device) -> object:
    return target.to(device) if isinstance(target, Tensor) else target
