"""Every axis trains on a GPU, as far as one in pretence can tell: no tensor is left behind."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_network import PLAIN, network
from pretended_gpu import GPU, OnGpu, Pretence
from torch import Tensor, nn

from nas.catalog import axes, load_axis
from nas.core.axis import join
from nas.core.fidelity import Fidelity
from nas.core.space import SearchSpace
from nas.core.task import Task
from nas.training.finish import finish
from nas.training.recipe import Recipe, Strong
from nas.training.train import train
from nas.transforms.stages import Given, Pipeline

POINTS = 6
RECIPE = Recipe(batch=8)


def batches(split: str, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        inputs = torch.randn(8, 3, 16, 16, generator=generator)
        yield inputs, torch.randint(0, 10, (8,), generator=generator)


def right(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) == target).float()


TASK = Task((3, 16, 16), 10, batches, F.cross_entropy, right, examples=72)
SPEC = TASK.spec("toy")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("NAS_LARGEKERNEL", "native")
    # which asks for the name of a device that has the kernel
    adam = sys.modules[torch.optim.Adam.__module__]
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_: None)


def given(joint: SearchSpace) -> Given:
    def examples(count: int) -> Tensor:
        return torch.randn(count, *SPEC.input, generator=torch.Generator().manual_seed(0))

    build = lambda: joint.build(joint.repair({}).choices, SPEC)  # noqa: E731
    return Given(TASK, examples, pretrained=True, reference=build)


def trained(module: nn.Module, pipeline: Pipeline, recipe: Recipe, folder: Path) -> nn.Module:
    """A network after three epochs, the last of which another process goes on with."""
    folder.mkdir()
    reached = {}
    additions = pipeline.during(module)

    def at(rung: object) -> bool:
        reached[rung.rung] = rung  # type: ignore[attr-defined]
        return True

    fidelity = Fidelity(epochs=3)
    train(module, TASK, recipe, fidelity, 0, folder=folder, on_rung=at, additions=additions)
    assert all(np.isfinite(r.score) for r in reached.values())
    return module.cpu()


@pytest.mark.slow
@pytest.mark.parametrize("name", axes())
def test_an_axis_trains_there_as_here(name: str, tmp_path: Path) -> None:
    joint = join(PLAIN, [load_axis(name)]).at(SPEC)
    rng = np.random.default_rng(3)
    for number in range(POINTS):
        choices = joint.sample(rng).choices
        pipeline = Pipeline(joint.transforms(choices, SPEC), given(joint))
        recipe = Recipe.from_json(pipeline.recipe(RECIPE.to_json()))
        torch.manual_seed(0)
        module, _ = pipeline.prepare(joint.build(choices, SPEC))
        other = copy.deepcopy(module)
        before = copy.deepcopy(module.state_dict())
        here = trained(module, pipeline, recipe, tmp_path / f"{number}-here").state_dict()
        with Pretence():
            there = trained(other.to(GPU), pipeline, recipe, tmp_path / f"{number}-there")
        for key, value in there.state_dict().items():
            assert not isinstance(value, OnGpu), (choices, key)
            # roundings and thresholds let the last bits grow: only that the same was learnt is sure
            assert value.isfinite().all() and value.shape == here[key].shape, (choices, key)
            learnt = [not torch.equal(one, before[key]) for one in (value, here[key])]
            assert learnt[0] == learnt[1], (choices, key)


def test_a_training_to_the_end_with_a_teacher_goes_on_there(tmp_path: Path) -> None:
    pipeline = Pipeline([], given(PLAIN.at(SPEC)))
    recipe = Strong(epochs=2, plain=RECIPE, precision="float32")
    epochs = iter([1, 2])

    def interrupted(rung: object) -> None:
        if next(epochs) == 1:
            raise KeyboardInterrupt

    with Pretence():
        module, teacher = (network({}, SPEC).to(GPU) for _ in range(2))
        again = partial(
            finish, module, TASK, recipe, 0, kept=tmp_path / "kept.safetensors",
            teacher=teacher.eval(), on_epoch=interrupted, additions=pipeline.during(module),
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            again()
        found = again()  # goes on from what was left on disk
        home = found.cpu().state_dict()
    assert all(v.isfinite().all() and not isinstance(v, OnGpu) for v in home.values())
