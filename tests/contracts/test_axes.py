"""Every axis found joins a space, leaves a network alone where it says so, and ships the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from plain_network import PLAIN, network
from torch import Tensor

from nas.catalog import axes, load_axis, load_space
from nas.core.axis import Axis, join
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.transforms.stages import Given, Pipeline

TASK = TaskSpec("digits", (3, 16, 16), 10)


@pytest.fixture(params=axes())
def axis(request: pytest.FixtureRequest) -> Axis:
    return load_axis(request.param)


@pytest.fixture
def given() -> Given:
    def examples(count: int) -> Tensor:
        return torch.randn(count, *TASK.input, generator=torch.Generator().manual_seed(0))

    return Given(TASK, examples)


def shipped(joint: SearchSpace, choices: object, given: Given, path: Path) -> Tensor:
    """What the file of a point, trained for no time at all, answers to some examples."""
    pipeline = Pipeline(joint.transforms(choices, TASK), given)  # type: ignore[arg-type]
    torch.manual_seed(0)
    module, _ = pipeline.prepare(joint.build(choices, TASK))  # type: ignore[arg-type]
    export(pipeline.deploy(module, TASK.input)[0], TASK.input, path)
    pipeline.write(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": given.examples(8).numpy()})[0])


def test_what_is_proposed_is_legal_beside_a_space(axis: Axis) -> None:
    joint = join(load_space("largekernel"), [axis]).at(TASK)
    rng = np.random.default_rng(0)
    for _ in range(30):
        point = joint.sample(rng)
        assert joint.check(point.choices) == []
        assert joint.check(joint.neighbours(point, rng)[0].choices) == []
    assert joint.check(joint.preset("convnext_a").choices) == []


def test_the_first_values_leave_the_network_alone(axis: Axis, given: Given, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    joint = join(PLAIN, [axis]).at(TASK)
    untouched = joint.repair({}).choices
    torch.manual_seed(0)
    plain = network({}, TASK).eval()
    with torch.no_grad():
        expected = plain(given.examples(8))
    found = shipped(joint, untouched, given, tmp_path / "n.onnx")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_point_ends_in_a_file_that_runs(axis: Axis, given: Given, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    joint = join(PLAIN, [axis]).at(TASK)
    rng = np.random.default_rng(1)
    for number in range(4):
        found = shipped(joint, joint.sample(rng).choices, given, tmp_path / f"{number}.onnx")
        assert found.shape == (8, 10) and bool(torch.isfinite(found).all())
