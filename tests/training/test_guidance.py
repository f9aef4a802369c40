"""Guidance by alignment: the formula in float64, which layers are paired, what learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.core.errors import NasError
from nas.training.guidance import alignment, guidance, paired
from nas.training.mixing import mixing
from nas.training.recipe import Strong


def test_alignment_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 7)) + 3, rng.standard_normal((20, 11)) - 1
    y[:, :7] += 0.5 * x
    centring = np.eye(20) - 1 / 20
    k, m = x @ x.T, y @ y.T

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.trace(a @ centring @ b @ centring)) / 19**2

    wanted = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    found = alignment(torch.from_numpy(x), torch.from_numpy(y))
    assert found.item() == pytest.approx(wanted, rel=1e-12)
    features = np.linalg.norm((y - y.mean(0)).T @ (x - x.mean(0))) ** 2
    features /= np.linalg.norm(np.cov(x.T) * 19) * np.linalg.norm(np.cov(y.T) * 19)
    assert found.item() == pytest.approx(features, rel=1e-12)


def test_it_knows_no_rotation_no_scale_and_no_shift() -> None:
    x = torch.randn(12, 2, 4, 4, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(32, 32, dtype=torch.float64))[0]
    y = 3 * x.flatten(1) @ turn + 5
    assert alignment(x, y).item() == pytest.approx(1.0, abs=1e-12)
    assert alignment(x, torch.zeros(12, 3, dtype=torch.float64)).item() == 0.0


def plain(module: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(module(inputs), target)


def network(width: int, depth: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    body = [nn.Conv2d(3 if not i else width, width, 3, padding=1) for i in range(depth)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


def test_what_is_added_is_the_sum_over_pairs() -> None:
    module, guide = network(4, 2, 0), network(6, 4, 1)
    images, labels = torch.randn(8, 3, 6, 6), torch.arange(8) % 3
    loss = guidance(module, guide, strength=0.5).criterion(plain)
    found = loss(module, images, labels)
    answers = []
    for net in (module, guide):
        y, kept = images, []
        for layer in net:
            y = layer(y)
            kept += [y] if isinstance(layer, nn.Conv2d | nn.Linear) else []
        answers.append(kept)
    apart = sum(1 - alignment(answers[0][i], answers[1][j]) for i, j in ((0, 0), (1, 2), (2, 4)))
    wanted = plain(module, images, labels) + 0.5 * apart
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_it_is_learned_and_the_guide_is_not() -> None:
    module, guide = network(4, 3, 0), network(6, 5, 1)
    before = [p.clone() for p in guide.parameters()]
    loss = guidance(module, guide).criterion(lambda m, x, t: 0.0 * m(x).sum())
    images, labels = torch.randn(16, 3, 6, 6), torch.arange(16) % 3
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    apart = []
    for _ in range(30):
        optimizer.zero_grad()
        found = loss(module, images, labels)
        found.backward()
        optimizer.step()
        apart.append(found.item())
    assert apart[-1] < 0.7 * apart[0]
    assert all(torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))
    assert all(p.grad is None for p in guide.parameters())


def test_mixed_batches_are_compared_as_mixed() -> None:
    module, guide = network(4, 2, 0), network(6, 2, 1)
    seen = []
    guide.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images, labels = torch.randn(8, 3, 6, 6), torch.arange(8) % 3
    loss = mixing(Strong(1, mixed=1.0)).criterion(guidance(module, guide).criterion(plain))
    loss(module, images, labels).backward()
    assert len(seen) == 1 and not torch.equal(seen[0], images)


def test_a_network_without_layers_cannot_be_guided() -> None:
    with pytest.raises(NasError, match="has none"):
        guidance(nn.Sequential(nn.Flatten()), network(4, 2, 0))


def test_one_layer_is_paired_with_the_first() -> None:
    assert paired({"a": torch.zeros(1)}, {"b": torch.ones(1), "c": torch.ones(1)})[0][1] == 1
