"""A small residual network, a toy task, and a training of any plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.core.fidelity import Fidelity
from nas.core.task import Task, TaskSpec
from nas.training.recipe import Recipe
from nas.training.train import train
from nas.transforms.sparsify import Plan, sparsifying
from nas.transforms.stages import Addition, Given, Pipeline

SHAPE = (3, 8, 8)
FIDELITY = Fidelity(epochs=4, first=1, reduction=2)
RECIPE = Recipe(batch=8, rate=1e-2)


class Residual(nn.Module):
    """conv, two convs around which the input is added, a linear layer: groups 16, 32, and none."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = norm(16)
        self.inner = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.inner_norm = norm(32)
        self.outer = nn.Conv2d(32, 16, 3, padding=1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.outer(torch.relu(self.inner_norm(self.inner(x))))
        return self.head(self.mean(x).flatten(1))


def residual(seed: int = 0, **known: Callable[[int], nn.Module]) -> Residual:
    torch.manual_seed(seed)
    return Residual(**known)


def examples(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def task() -> Task:
    """Bright images against dark ones, with noise drawn from the seed."""

    def batches(split, seed):
        generator = torch.Generator().manual_seed(seed if split == "train" else 0)
        for _ in range(10):
            target = torch.arange(8) % 2
            noise = torch.randn(8, *SHAPE, generator=generator)
            yield noise + 0.3 * target.view(-1, 1, 1, 1), target

    return Task(SHAPE, 2, batches, nn.functional.cross_entropy,
                lambda o, t: (o.argmax(1) == t).float(), digest="bright")  # fmt: skip


@pytest.fixture
def given() -> Given:
    return Given(TaskSpec("t", SHAPE, 2), examples)


@pytest.fixture
def trained(tmp_path: Path, given: Given):
    """`trained(plan, seen=None, **known)`: prepared, trained, and the rungs it reported.

    `seen(module, share)` is called after every step; `beside` are transforms of other axes.
    """

    def run(plan: Plan, seen=None, seed: int = 0, beside=(), **known):
        pipeline = Pipeline([*beside, sparsifying(plan)], given)
        module, _ = pipeline.prepare(residual(seed))
        additions = pipeline.during(module)
        reports = []
        if seen is not None:
            additions.append(Addition(after=lambda over: seen(module, over)))

        train(
            module, task(), RECIPE, FIDELITY, 3, folder=tmp_path,
            on_rung=lambda r: reports.append(r) or True,
            additions=additions, **known,
        )  # fmt: skip
        return module, reports

    return run
