"""Masked weights: how many, and that they stay at zero whatever the optimiser does."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from nas.networks.parts.sparse import settle, sparsify


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5)
    )


def test_every_layer_keeps_its_share() -> None:
    module = network()
    sparsify(module, 0.6)
    kept = [int((m.weight != 0).sum()) for m in (module[0], module[4])]
    assert kept == [round(0.6 * 216), round(0.6 * 40)]
    assert bool((module[1].weight != 0).all())


def test_density_one_changes_nothing() -> None:
    module = network()
    sparsify(module, 1.0)
    assert "0.weight" in module.state_dict()


def test_dead_weights_stay_dead_in_training() -> None:
    torch.manual_seed(0)
    module = network()
    sparsify(module, 0.5)
    dead = [module[0].weight == 0, module[4].weight == 0]
    before = module[0].weight.detach().clone()
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        module(torch.randn(4, 3, 3, 3)).square().sum().backward()
        optimiser.step()
    assert bool((module[0].weight[dead[0]] == 0).all())
    assert bool((module[4].weight[dead[1]] == 0).all())
    assert not torch.equal(before, module[0].weight)


def test_settling_a_copy_leaves_the_original_working() -> None:
    torch.manual_seed(0)
    module = network()
    sparsify(module, 0.5)
    copy = deepcopy(module)
    assert settle(copy) == ["0", "4"]
    assert type(copy[0]) is nn.Conv2d
    assert torch.equal(copy[0].weight, module[0].weight)
    assert sorted(copy.state_dict()) == sorted(network().state_dict())
    x = torch.randn(2, 3, 3, 3)
    assert torch.equal(copy.eval()(x), module.eval()(x))


def test_weights_and_masks_travel_in_the_state() -> None:
    one, other = network(), network()
    sparsify(one, 0.5)
    sparsify(other, 0.5)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one[0].weight, other[0].weight)
