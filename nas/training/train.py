"""Brief training: from rung to rung, stopped and resumed without a trace.

Everything random in an epoch is made of the seed and the epoch's number, and the learning rate of
the step's number. A training that goes on from a checkpoint is therefore, on one thread and one
machine, bit for bit the training that never stopped; but for one that is long enough to be
compiled (`nas.training.compiling`), which it is to rounding.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.core.architecture import digest
from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.networks.parts.unified import UnifiedNorm
from nas.training import checkpoint, precision
from nas.training.allocator import kept_memory
from nas.training.compiling import Forward
from nas.training.growth import Growth, remember
from nas.training.optimizers import AdaBelief, Lamb
from nas.training.products import quick
from nas.training.recipe import Recipe
from nas.training.repopt import multiply_gradients
from nas.training.scoring import Step, of_module, score
from nas.transforms.stages import Addition, Criterion

_CHECK_EVERY = 16
_SETTLED_ON = 256
_LAGGING = 500  # steps of a training whose running averages still lag at its end


@dataclass(frozen=True)
class RungReport:
    """A training that reached a rung.

    `score` is in the task's reported unit, of the search's two thirds of validation, in the
    training form (before the last rung, with fresh batch-norm statistics); `n` is how many
    examples that is; `checkpoint` resumes from here.
    """

    rung: int
    epochs: int
    score: float
    n: int
    checkpoint: Path


def train(  # noqa: PLR0913
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
    additions: Sequence[Addition] = (),
) -> nn.Module:
    """Trains a module in place, and returns it in evaluation.

    Args:
        module: freshly built under the same seed, on the device to train on.
        folder: where checkpoints are written, each under a name of its own.
        start: the checkpoint that `from_rung` left; None with `from_rung` -1.
        to_rung: the last rung to reach, by default the last there is.
        on_rung: told of each rung reached; training ends early where it returns False. It may
            move the checkpoint away.
        step: entered around each step and each scored batch (the device's lease).
        additions: what transforms add to the loss and do after each step, in this order.

    Raises: NasError where the loss is no longer a number, or the checkpoint is of another training.
    """
    rungs = fidelity.rungs
    last = len(rungs) - 1 if to_rung is None else to_rung
    done = rungs[from_rung] if from_rung >= 0 else 0
    for held in (*module.parameters(), *module.buffers()):
        if held.dim() == 4:  # torch would refuse five axes
            held.data = held.data.contiguous(memory_format=torch.channels_last)
    training = _Training(
        module, task, recipe, fidelity, seed, _optimizer(module, recipe), step, tuple(additions)
    )
    if recipe.growth:
        remember(module)
    if start is not None:
        training.resume(start, done)
    elif done:
        raise NasError(f"rung {from_rung} left no checkpoint", "train from rung -1")
    for addition in additions:
        if addition.begin is not None:
            addition.begin(training.optimizer)
    lower = recipe.precision != "float32"
    with torch.random.fork_rng(), kept_memory(), quick(module) if lower else nullcontext():
        for epoch in range(done, rungs[last]):
            steps = fidelity.epochs * training.epoch(epoch)
            reached = epoch + 1 in rungs
            if reached and not on_rung(training.reached(epoch + 1, steps, folder)):
                break
    _unwatched(module)
    return module.eval()


def _unwatched(module: nn.Module) -> None:
    """Takes off the hooks of additions: a layer with one is taken for one of its own kind."""
    for layer in module.modules():
        for number, hook in list(layer._forward_hooks.items()):
            if getattr(hook, "__module__", "").startswith("nas.training."):
                del layer._forward_hooks[number]


@dataclass(frozen=True, eq=False)
class _Training:
    """A training under way; all that changes is in the module and its optimizer."""

    module: nn.Module
    task: Task
    recipe: Recipe
    fidelity: Fidelity
    seed: int
    optimizer: torch.optim.Optimizer
    step: Step
    additions: tuple[Addition, ...]

    @cached_property
    def criterion(self) -> Criterion:
        """The task's loss of the module's output, with what the additions make of it."""

        def plain(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            shape = self.recipe.batch, *inputs.shape[1:]  # the same answer for a part of a batch
            lower = precision.lowered(self.recipe.precision, inputs.device, shape)
            with precision.within(lower, inputs.device):
                output = (self.forward if module is self.module else module)(inputs)
            found: Tensor = self.task.loss(precision.widened(output), target)
            return found

        loss: Criterion = plain
        for addition in self.additions:
            loss = addition.criterion(loss) if addition.criterion else loss
        return loss

    @cached_property
    def forward(self) -> Forward:
        """Calls the module; not compiled where additions look inside it, or batches grow."""
        alone = not self.additions and not self.recipe.growth
        return Forward(self.module, self.recipe.compiled if alone else "never")

    @cached_property
    def growth(self) -> Growth | None:
        """What batches grow by, where the recipe lets them."""
        return Growth(self.module, self.recipe.growth) if self.recipe.growth else None

    @property
    def identity(self) -> str:
        """What a checkpoint must be of to be gone on from."""
        fidelity = {"rungs": list(self.fidelity.rungs), "data": self.fidelity.data}
        return digest([self.recipe.to_json(), fidelity, self.task.digest, self.seed])

    def resume(self, path: Path, epochs: int) -> None:
        """Goes back to a checkpoint. Raises: NasError where it is of another training."""
        said = checkpoint.about(path)
        if said.get("of") != self.identity or said.get("epochs") != epochs:
            raise NasError(
                f"the checkpoint {path} is of another training: it says {said}",
                f"name one of {epochs} epochs of the same recipe, fidelity, data and seed",
            )
        checkpoint.restore(path, self.module, self.optimizer)

    def reached(self, epochs: int, steps: int, folder: Path) -> RungReport:
        """Scores the module as it is and leaves a checkpoint; `steps` are the whole training's."""
        self.module.eval()
        rung = self.fidelity.rungs.index(epochs)
        final = epochs == self.fidelity.epochs
        lags = not final or steps < _LAGGING
        with self.settled(epochs, back=not final) if lags else nullcontext():
            found = score(of_module(self.module), self.task, ("search",), step=self.step)["search"]
        path = folder / f"rung-{rung}-{uuid.uuid4().hex}.safetensors"
        about = {"epochs": epochs, "of": self.identity}
        checkpoint.save(path, self.module, self.optimizer, about)
        return RungReport(rung, epochs, found.score, found.n, path)

    @contextmanager
    def settled(self, epochs: int, back: bool) -> Iterator[None]:
        """Norms with fresh statistics of the weights as they are, old ones put `back` afterwards.

        While the learning rate is high, running averages lag behind the weights, and how far is
        chance: after one epoch of digits one network scored 39 % with them and 86 % with fresh
        ones. A rung must rank networks, not their lag. At the last rung the rate is zero and there
        is none, but in trainings of few steps, which keep the fresh ones (one of 57 steps scored
        10 % instead of 94 %; precise statistics: Wu and Johnson, arXiv 2105.07576).
        """
        self.module.train()  # a frozen network keeps its norms in evaluation: their lag is none
        norms = [m for m in self.module.modules() if isinstance(m, Tracking) and _tracks(m)]
        self.module.eval()
        kept = [(m, m.momentum, {k: v.clone() for k, v in m.named_buffers()}) for m in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        if norms:
            self._show(_SETTLED_ON, epoch_seed(self.seed, epochs))
        self.module.eval()
        try:
            yield
        finally:
            for norm, momentum, buffers in kept:
                norm.momentum = momentum
                for name, value in norm.named_buffers() if back else ():
                    value.copy_(buffers[name])

    def _show(self, examples: int, seed: int) -> None:
        """Lets the module see some training batches, without learning."""
        batches = iter(self.task.batches("train", seed))
        device = next(self.module.parameters()).device
        with torch.no_grad():
            while examples > 0:
                with self.step():
                    batch = next(batches, None)
                    if batch is None:
                        return
                    self.module(batch[0].to(device))
                    examples -= len(batch[0])

    def epoch(self, epoch: int) -> int:
        """One pass over the first `fidelity.data` of the training batches; how many those are."""
        self.module.train()
        seed = epoch_seed(self.seed, epoch)
        torch.manual_seed(seed)  # dropout and its like
        count = steps_in(self.task.batches("train", seed), self.fidelity.data)
        self.forward.left = count * (min(r for r in self.fidelity.rungs if r > epoch) - epoch)
        batches = iter(self.task.batches("train", seed))
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        health = torch.zeros((), device=parameters[0].device)
        for number, taken in self._steps(count):
            # The middle of the step, so that neither the first nor the last is without effect.
            share = (epoch + (number + 0.5 * taken) / count) / self.fidelity.epochs
            rate = self.recipe.rate_at(share)
            self.optimizer.zero_grad(set_to_none=True)
            for _ in range(taken if self.growth else 0):
                with self.step():
                    health += self._gather(next(batches), parameters)
            with self.step():
                if self.growth:
                    self.growth.settle(parameters, self.recipe.batch)
                else:
                    health += self._descend(*next(batches))
                health += self._move(rate, parameters)
                over = (epoch + (number + taken) / count) / self.fidelity.epochs
                for addition in self.additions:
                    if addition.after is not None:
                        addition.after(over)
            if number % _CHECK_EVERY == 0 or number + taken == count:
                _check(health, epoch, rate)
        return count

    def _steps(self, count: int) -> Iterator[tuple[int, int]]:
        """The steps of an epoch of `count` batches: how many are over, how many this one takes."""
        done = 0
        while done < count:
            taken = min(self.growth.batches if self.growth else 1, count - done)
            yield done, taken
            done += taken

    def _gather(self, batch: tuple[Tensor, Any], parameters: list[nn.Parameter]) -> Tensor:
        """The gradients of a batch's parts, kept for a step of several batches; their losses."""
        assert self.growth is not None
        losses = torch.zeros((), device=parameters[0].device)
        for inputs, target in self.growth.parts(*batch):
            losses += self._descend(inputs, target)
            self.growth.gather(parameters, len(inputs))
        return losses

    def _descend(self, inputs: Tensor, target: Any) -> Tensor:
        """Adds the gradients of a batch to the parameters'; returns its loss."""
        inputs, target = beside(self.module, inputs, target)
        try:
            loss = self.criterion(self.module, inputs, target)
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError:
            if not self.forward.give_up():
                raise
            self.optimizer.zero_grad(set_to_none=True)
            return self._descend(inputs, target)
        return loss.detach()

    def _move(self, rate: float, parameters: list[nn.Parameter]) -> Tensor:
        """One step of the optimizer, gradients clipped; returns their norm."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        over = ((norm + 1e-6) / self.recipe.clip).clamp(min=1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("times", 1.0)  # which an addition may have put there
        if getattr(self.optimizer, "_step_supports_amp_scaling", False):
            self.optimizer.grad_scale = over  # type: ignore[attr-defined]  # one pass less
        else:
            torch._foreach_div_(gradients, over)
        self.optimizer.step()
        return norm


Tracking = _BatchNorm | UnifiedNorm  # norms that keep statistics


def _tracks(norm: Tracking) -> bool:
    return norm.running_var is not None and norm.training


def beside(module: nn.Module, inputs: Tensor, target: Any) -> tuple[Tensor, Any]:
    """A batch on the module's device; targets that are no tensor are as they were."""
    device = next(module.parameters()).device
    return inputs.to(device), target.to(device) if isinstance(target, Tensor) else target


def _check(health: Tensor, epoch: int, rate: float) -> None:
    """Raises: NasError once a loss or a gradient was infinite or not a number."""
    if not math.isfinite(float(health)):
        raise NasError(
            f"training diverged in epoch {epoch + 1}, at a learning rate of {rate:.2g}: "
            "the loss or its gradient is not a finite number",
            "lower the recipe's rate, or leave this architecture out",
        )


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise NasError("the network has no parameter to train", "give it one that requires_grad")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = _OPTIMIZERS[recipe.optimizer](groups, lr=recipe.rate)
    multiply_gradients(optimizer, module)
    return optimizer


_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adabelief": AdaBelief,
    "adagrad": torch.optim.Adagrad,
    "lamb": Lamb,
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of one epoch: the same everywhere, and unlike any other epoch's."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def steps_in(batches: Iterable[object], share: float) -> int:
    """How many batches of an epoch are trained on: the first `share` of them, at least one.

    >>> steps_in(range(29), 0.5), steps_in(range(29), 1.0), steps_in(range(3), 0.01)
    (15, 29, 1)
    """
    total = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    if not total:
        raise NasError("the task gives no training batch", "give more data or smaller batches")
    return max(1, math.ceil(total * share - 1e-9))
