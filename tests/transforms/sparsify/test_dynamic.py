"""Dropping and growing against a reference written from the papers' words."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from nas.transforms.sparsify.dynamic import acquisition, moved
from nas.transforms.sparsify.plan import Plan
from nas.transforms.sparsify.schedules import DST_ROUNDS, dropped_in
from nas.transforms.sparsify.weights import masked


def rigl(weight: np.ndarray, mask: np.ndarray, gradient: np.ndarray, fraction: float) -> np.ndarray:
    """RigL: the smallest active weights go, the largest gradients of what is not active come."""
    active = np.flatnonzero(mask)
    count = int(fraction * len(active))
    order = active[np.argsort(np.abs(weight[active]), kind="stable")]
    after = mask.copy()
    after[order[:count]] = False
    closed = np.flatnonzero(~after)
    after[closed[np.argsort(-np.abs(gradient[closed]), kind="stable")[:count]]] = True
    return after


def test_without_exploration_it_is_rigl() -> None:
    rng = np.random.default_rng(0)
    weight, mask = rng.normal(size=600), rng.random(600) < 0.2
    visits = torch.zeros(600, dtype=torch.int32)
    for round in range(1, 15):
        gradient = rng.normal(size=600)
        scores = acquisition(torch.tensor(gradient), visits, round, 0.0)
        found, new = moved(
            torch.tensor(weight * mask), torch.tensor(mask), scores, dropped_in(round)
        )
        expected = rigl(weight * mask, mask, gradient, dropped_in(round))
        assert found.numpy().tolist() == expected.tolist()
        assert new.numpy().tolist() == (expected & ~mask).tolist()
        assert found.sum() == mask.sum()
        mask = expected
        visits += torch.tensor(mask)
        weight = weight * mask + 0.1 * rng.normal(size=600)


def test_exploration_tries_what_was_seldom_active() -> None:
    """The paper's claim: the more exploration, the more of all connections are ever active."""

    def coverage(exploration: float) -> float:
        rng = np.random.default_rng(0)
        favourites = rng.random(500)  # gradients that always point at the same connections
        mask = torch.tensor(rng.random(500) < 0.1)
        visits, ever = torch.zeros(500, dtype=torch.int32), mask.clone()
        for round in range(1, DST_ROUNDS + 1):
            visits += mask
            gradient = torch.tensor(favourites + 0.05 * rng.normal(size=500))
            weight = torch.tensor(rng.normal(size=500)) * mask
            scores = acquisition(gradient, visits, round, exploration)
            mask, _ = moved(weight, mask, scores, 0.3)
            ever |= mask
        return float(ever.float().mean())

    shares = [coverage(c) for c in (0.0, 0.1, 1.0)]
    assert shares == sorted(shares) and shares[2] > 1.5 * shares[0]


def test_the_score_is_the_upper_confidence_bound() -> None:
    gradient = torch.tensor([1.0, -2.0, 4.0])
    active = torch.tensor([0, 1, 3], dtype=torch.int32)
    found = acquisition(gradient, active, 10, 0.5)
    expected = [g + 0.5 * 2.0 * np.log(10) / (n + 1) for g, n in ((1, 0), (2, 1), (4, 3))]
    assert found.tolist() == pytest.approx(expected)


def test_in_a_training_the_number_of_connections_never_changes(trained) -> None:
    plan = Plan("unstructured", 0.8, "erk", "dst", exploration=1.0, ends=True)
    counts, masks = set(), []

    def seen(module, over):
        found = masked(module)
        counts.add(tuple(m.live for m in found))
        masks.append(torch.cat([m.mask().flatten() for m in found]).clone())
        for m in found:
            assert not (m.weight * ~m.mask()).any()

    module, _ = trained(plan, seen)
    assert len(counts) == 1
    changed = [not torch.equal(a, b) for a, b in pairwise(masks)]
    assert sum(changed) > 5 and not any(changed[31:])  # none after 75 % of 40 steps
    total = sum(m.weight.numel() for m in masked(module))
    assert sum(next(iter(counts))) == round(0.2 * total)
