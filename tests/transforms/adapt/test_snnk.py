from __future__ import annotations

import math

import torch
from adapter_networks import adapt, inputs, pretrained
from torch import Tensor

from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.snnk import KernelAdapter, directions, features


def arc_cosine(x: Tensor, w: Tensor) -> Tensor:
    """E[relu(g x) relu(g w)] over Gaussian g (Cho and Saul 2009)."""
    lengths = x.norm() * w.norm()
    angle = torch.acos((x @ w / lengths).clamp(-1, 1))
    return lengths / (2 * math.pi) * (angle.sin() + (math.pi - angle) * angle.cos())


def test_features_estimate_the_arc_cosine_kernel() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 16)
    expected = float(arc_cosine(x, w))
    wrong = []
    for count in (64, 16384):
        rows = directions(count, 16, seed=1)
        found = float(features(x, rows) @ features(w, rows))
        wrong.append(abs(found - expected) / expected)
    assert wrong[1] < 0.02 and wrong[1] < wrong[0]


def test_orthogonal_rows_estimate_it_better_than_independent_ones() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 16)
    expected = arc_cosine(x, w)

    def deviation(draw) -> float:
        found = torch.stack([features(x, g) @ features(w, g) for g in map(draw, range(400))])
        assert abs(float(found.mean() / expected) - 1) < 0.1  # both unbiased
        return float((found - expected).square().mean().sqrt())

    independent = deviation(
        lambda seed: torch.randn(16, 16, generator=torch.Generator().manual_seed(seed))
    )
    assert deviation(lambda seed: directions(16, 16, seed)) < independent


def test_rows_of_a_block_are_orthogonal_and_come_from_the_seed() -> None:
    rows = directions(8, 8, seed=3)
    products = rows @ rows.T
    assert float((products - products.diag().diag()).abs().max()) < 1e-4
    assert torch.equal(rows, directions(8, 8, seed=3))
    assert not torch.equal(rows, directions(8, 8, seed=4))


def test_the_rows_are_stored_and_not_trained() -> None:
    part = KernelAdapter(16, 4, maps=False, seed=0)
    assert "rows" in part.state_dict()
    assert {n for n, _ in part.named_parameters()} == {"psi", "v"}
    # fewer than a linear layer's where features are few
    assert sum(p.numel() for p in part.parameters()) == 4 * 16 + 16 < 16 * 16 + 16


def test_every_layer_has_rows_of_its_own_whatever_the_trainings_seed() -> None:
    one = adapt(pretrained("fused"), Plan("snnk"), seed=5)
    two = adapt(pretrained("fused"), Plan("snnk"), seed=5)
    rows = [
        [m.rows for m in tried.adapted.modules() if isinstance(m, KernelAdapter)]
        for tried in (one, two)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*rows, strict=True))
    assert not torch.equal(rows[0][0], rows[0][1])
    assert inputs().shape[0] == 4
