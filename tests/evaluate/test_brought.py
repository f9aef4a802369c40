"""A network that every trial would fail of is told of before a study begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import toy_spec

from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.evaluate.brought import try_network
from nas.training.recipe import Recipe
from nas.training.tasks import describe

MINE = """
import torch
from torch import nn
from nas import Task

def batches(split, seed):
    maps = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    yield maps, (maps.mean(1) > 0).long()

def pixels():
    return Task((3, 8, 8), 2, batches, nn.functional.cross_entropy, lambda o, t: o.mean())

def heights():
    return Task((3, 8, 8), 1, lambda split, seed: [(x, x.mean((1, 2, 3))) for x, _ in
                batches(split, seed)], lambda o, t: (o[:, 0] - t).square().mean(),
                lambda o, t: o[:, 0] - t)

def net(task, outputs=None):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, outputs or task.outputs))

def maps(task):
    return nn.Conv2d(3, task.outputs, 1)

class Named(nn.Module):
    def __init__(self, form, looks=False):
        super().__init__()
        self.layer, self.form, self.looks = nn.Conv2d(3, 10, 1), form, looks

    def forward(self, x):
        x = self.layer(x)
        if self.looks and x.mean() > 0:
            x = -x
        return self.form(x.mean((2, 3)))

def fails(task): raise ValueError("boom")
def number(task): return 3
def other(task): return Named
def seven(task): return net(task, 7)
def said(task): return Named(lambda x: {"logits": x})
def both(task): return Named(lambda x: (x, x))
def looks(task): return Named(lambda x: x, looks=True)
def five(task): return nn.Sequential(nn.Conv2d(5, 10, 3), nn.Flatten())
def lazy(task): return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
def scripted(task): return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))
def half(task): return net(task).half()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"tried_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def spec(network: str, task: str = "digits") -> StudySpec:
    recipe = Recipe(flip=False, shift=0.0).to_json()
    return toy_spec(network=network, task=describe(task), recipe=recipe)


@pytest.mark.parametrize(
    ("network", "problem", "hint"),
    [
        ("fails", "fails: ValueError: boom", "line 36: `def fails(task)"),
        ("number", "returned 3, not a torch.nn.Module", "return one"),
        ("other", "not a torch.nn.Module", "return one"),
        ("seven", "returns (2, 7) for 2 images of 10 classes, not (2, 10)", "task.outputs"),
        ("maps", "returns (2, 10, 32, 32) for 2 images", "task.outputs"),
        ("said", "returns dict, not one tensor", ".logits"),
        ("both", "returns tuple, not one tensor", ".logits"),
        ("five", "does not run on 2 examples of 3x32x32", "must take float32 of (B, 3, 32, 32)"),
        ("lazy", "1.weight of", "net(torch.zeros(2, *task.input))"),
        ("scripted", "returned a ScriptModule", "before torch.jit"),
        ("half", "does not run", "its weights are float16: return net.float()"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_every_trial_would_fail_of(mine: str, network: str, problem: str, hint: str) -> None:
    with pytest.raises(NasError) as told:
        try_network(spec(f"{mine}:{network}"))
    assert f"{mine}:{network}" in told.value.problem and problem in told.value.problem
    assert hint in told.value.hint and "\n" not in told.value.problem


@pytest.mark.parametrize(
    ("network", "task"),
    [("net", "digits"), ("maps", "pixels"), ("net", "heights"), ("looks", "digits")],
)
def test_what_its_task_takes_is_taken(mine: str, network: str, task: str) -> None:
    try_network(spec(f"{mine}:{network}", task if task == "digits" else f"{mine}:{task}"))


def test_the_loss_of_a_task_judges_what_is_returned(mine: str) -> None:
    with pytest.raises(NasError) as told:
        try_network(spec(f"{mine}:net", f"{mine}:pixels"))
    assert f"the loss of {mine}:pixels does not take" in told.value.problem
    assert "(8, 2)" in told.value.problem and "the task has 2 outputs" in told.value.hint


@pytest.mark.slow
def test_a_rehearsal_traces_it(mine: str) -> None:
    with pytest.raises(NasError) as told:
        try_network(spec(f"{mine}:looks"), traced=True)
    assert told.value.problem.startswith(str(Path(f"{mine}.py").absolute()))
    assert "`if self.looks and x.mean() > 0:` cannot be exported" in told.value.problem
    try_network(spec(f"{mine}:net"), traced=True)


def test_what_is_drawn_afterwards_is_the_same(mine: str) -> None:
    before = torch.random.get_rng_state()
    try_network(spec(f"{mine}:net"))
    assert torch.equal(before, torch.random.get_rng_state())
