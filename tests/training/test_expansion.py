"""What growing would gain: the score by its definition, and networks that grow into themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.catalog import load_space
from nas.core.expansion import expansions
from nas.core.task import Task, TaskSpec
from nas.training.expansion import answers_alike, asked, grow, identical, natural

SPEC = TaskSpec("digits", (3, 16, 16), 10)


def task(count: int = 24) -> Task:
    numbers = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 16, 16, generator=numbers)
    labels = torch.arange(count) % 10

    def batches(split: str, seed: int) -> list[tuple[Tensor, Tensor]]:
        return [(images[part], labels[part]) for part in torch.arange(count).split(8)]

    return Task(
        (3, 16, 16), 10, batches, functional.cross_entropy,
        lambda output, target: (output.argmax(1) == target).float(), digest="d",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def repeatable() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_the_score_is_the_natural_gradients_by_its_definition() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4, dtype=torch.float64))
    inputs, labels = torch.randn(9, 3, 2, 2, dtype=torch.float64), torch.arange(9) % 4
    pairs = [(inputs[i : i + 1], labels[i : i + 1]) for i in range(9)]
    with torch.no_grad():
        away = module(inputs).softmax(1) - functional.one_hot(labels, 4)  # by the output
    each = np.concatenate([
        np.einsum("no,ni->noi", away.numpy(), inputs.flatten(1).numpy()).reshape(9, -1),
        away.numpy(),
    ], 1)  # fmt: skip
    fisher = np.diag((each**2).mean(0) + 1e-12)
    wanted = each[::2].mean(0) @ np.linalg.inv(fisher) @ each[1::2].mean(0)
    assert natural(module, task(), pairs) == pytest.approx(wanted, rel=1e-9)


SEEDS = {"resnet": 3, "mbconv": 0, "osa": 1, "hiervit": 2, "largekernel": 5}


@pytest.mark.parametrize("name", SEEDS)
def test_a_deeper_network_begins_as_the_one_it_was(name: str) -> None:
    space = load_space(name).at(SPEC)
    small = space.sample_sized(np.random.default_rng(SEEDS[name]), 0.0)
    module = space.build(small.choices, SPEC)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    pairs = [(torch.randn(1, 3, 16, 16), torch.tensor([i])) for i in range(4)]
    alike = {}
    for decision, choices in expansions(space, small.choices).items():
        larger = space.build(choices, SPEC)
        new = grow(larger, module, pairs[0][0])
        alike[decision] = answers_alike(larger, module, pairs)
        if decision.endswith("depth"):
            assert new, decision
    deeper = [ok for decision, ok in alike.items() if decision.endswith("depth")]
    assert deeper and any(deeper), alike


def test_a_wider_convolution_begins_as_the_one_it_was() -> None:
    def network(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 5, 3),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10),
        )  # fmt: skip

    small, large = network(4), network(7)
    pairs = [(torch.randn(1, 3, 16, 16), torch.tensor([i])) for i in range(4)]
    assert not answers_alike(large, small, pairs)
    assert grow(large, small, pairs[0][0]) == []
    assert answers_alike(large, small, pairs)
    assert torch.equal(large[0].weight[:4], small[0].weight)
    assert 0 < large[3].weight[:, 4:].abs().max() < 1e-3


def test_what_cannot_be_an_identity_says_so() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert not identical(network, "1", torch.randn(1, 3, 2, 2))


def test_a_trained_network_is_asked_and_left_alone() -> None:
    space = load_space("resnet").at(SPEC)
    small = space.sample_sized(np.random.default_rng(3), 0.0)
    module = space.build(small.choices, SPEC)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    grown = {
        name: lambda choices=choices: space.build(choices, SPEC)
        for name, choices in list(expansions(space, small.choices).items())[:3]
    }
    report = asked(module, task(), grown, seed=0)
    again = asked(module, task(), grown, seed=0)
    assert report == again and report.transform == "growth"
    assert set(report.suggests) | {name for name, _ in report.skipped} == set(grown)
    assert all(np.isfinite(ratio) and ratio >= 0 for ratio in report.suggests.values())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
