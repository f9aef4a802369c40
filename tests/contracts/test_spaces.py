"""Every search space found: a new file in `search_spaces/` is tested because it exists."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nas.catalog import load_space, spaces
from nas.core.architecture import Architecture
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.deploy.parity import check
from nas.transforms.fold import fold

TASK = TaskSpec("digits", (3, 32, 32), 10)
SAMPLES = 3


@pytest.fixture(params=spaces())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return load_space(request.param).at(TASK)


def sampled(space: SearchSpace, count: int) -> list[Architecture]:
    rng = np.random.default_rng(11)
    sizes = np.linspace(0.05, 0.5, count)
    return [space.sample_sized(rng, float(size)) for size in sizes]


def test_what_is_proposed_is_legal_and_survives_json(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    parents = [space.sample(rng) for _ in range(20)]
    children = [space.neighbours(p, rng)[0] for p in parents]
    mixed = [space.crossover(a, b, rng) for a, b in zip(parents, children, strict=True)]
    for found in (*parents, *children, *mixed):
        assert space.check(found.choices) == []
        assert space.architecture(found.choices) == found
        again = Architecture.from_json(json.loads(json.dumps(found.to_json())))
        assert (again, again.key) == (found, found.key)
    width = {len(space.encode(a)) for a in (*parents, *mixed)}
    assert len(width) == 1


def test_every_preset_is_a_point(space: SearchSpace) -> None:
    for name in space.presets:
        assert space.check(space.preset(name).choices) == []


def test_networks_train_and_deploy_as_what_they_were_trained(space: SearchSpace) -> None:
    torch.set_num_threads(1)
    for architecture in sampled(space, SAMPLES):
        torch.manual_seed(0)
        module = space.build(architecture.choices, TASK)
        torch.manual_seed(0)
        twin = space.build(architecture.choices, TASK)
        state, same = module.state_dict(), twin.state_dict()
        assert all(torch.equal(state[name], same[name]) for name in state)
        module.train()
        images = torch.randn(4, *TASK.input)
        output = module(images)
        assert output.shape == (4, TASK.outputs)
        output.square().mean().backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert gradients and all(bool(torch.isfinite(g).all()) for g in gradients)
        module.eval()
        deployed, _ = fold(module, TASK.input)
        with torch.no_grad():
            assert torch.allclose(deployed(images), module(images), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_networks_export_and_agree_in_their_runtime(space: SearchSpace, tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    [architecture] = sampled(space, 1)
    torch.manual_seed(0)
    deployed, _ = fold(space.build(architecture.choices, TASK).eval(), TASK.input)
    exported = export(deployed, TASK.input, tmp_path / "network.onnx")
    assert len(exported.build) == 32
    assert check(deployed, tmp_path / "network.onnx", torch.randn(5, *TASK.input)).passed
