from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.transforms.sparsify import allocate

SHAPES = [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 1, 1), (10, 64)]
SIZES = [int(np.prod(s)) for s in SHAPES]


def kept(densities: np.ndarray, sizes: list[int]) -> float:
    return float((densities * np.array(sizes)).sum() / sum(sizes))


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.9])
def test_erk_spends_the_budget_in_proportion_to_sums_over_products(density: float) -> None:
    found = allocate.erk(SHAPES, density)
    assert kept(found, SIZES) == pytest.approx(density, rel=1e-9)
    raw = np.array([sum(s) / np.prod(s) for s in SHAPES])
    open_layers = found < 1
    ratios = (found / raw)[open_layers]
    assert ratios.max() == pytest.approx(ratios.min(), rel=1e-9)
    if (~open_layers).any() and open_layers.any():
        assert raw[~open_layers].min() * ratios[0] >= 1


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    st.floats(0.01, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_water_filling_maximises_the_sum_of_logarithms(sizes: list[int], density: float) -> None:
    """Moving weights between any two layers lowers the sum: the optimum of a concave function."""
    found = allocate.water_filling(sizes, density)
    assert kept(found, sizes) == pytest.approx(density, rel=1e-6)
    best = np.log(found).sum()
    for i, j in itertools.permutations(range(len(sizes)), 2):
        other = found.copy()
        step = 0.01 * min(found[i] * sizes[i], sizes[j])
        other[i] -= step / sizes[i]
        other[j] += step / sizes[j]
        if other[j] <= 1:
            assert np.log(other).sum() <= best + 1e-9


def test_one_threshold_for_all_layers() -> None:
    rng = np.random.default_rng(0)
    magnitudes = [rng.random(400), 3 * rng.random(200), 0.01 * rng.random(50)]
    found = allocate.by_magnitude(magnitudes, 0.4)
    counts = (found * np.array([400, 200, 50])).round().astype(int)
    assert counts.sum() == 260
    # the third layer is below any threshold, and keeps its tenth of the common density
    assert counts[2] == 2
    cuts = [np.sort(m)[::-1][c - 1] for m, c in zip(magnitudes[:2], counts[:2], strict=True)]
    dropped = [np.sort(m)[::-1][c] for m, c in zip(magnitudes[:2], counts[:2], strict=True)]
    assert max(dropped) <= min(cuts)


@given(st.lists(st.integers(2, 3000), min_size=1, max_size=6), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_counts_come_to_the_total(sizes: list[int], density: float) -> None:
    found = allocate.counts(allocate.uniform(sizes, density), sizes, density)
    assert all(1 <= k <= n for k, n in zip(found, sizes, strict=True))
    assert sum(found) == max(round(density * sum(sizes)), len(sizes))


def brute_force(costs: list[np.ndarray], harms: list[np.ndarray], budget: float) -> float:
    sums = (
        sum(h[i] for h, i in zip(harms, options, strict=True))
        for options in itertools.product(*(range(len(c)) for c in costs))
        if sum(c[i] for c, i in zip(costs, options, strict=True)) <= budget
    )
    return min(sums)


@given(st.integers(0, 10_000), st.integers(20, 120))
@settings(max_examples=80, deadline=None)
def test_the_dynamic_program_finds_what_brute_force_finds(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    costs = [np.sort(rng.integers(1, 40, 6))[::-1].astype(float) for _ in range(3)]
    costs = [np.append(c, 1.0) for c in costs]
    harms = [np.append(np.sort(rng.random(6)), 2.0) for _ in range(3)]
    chosen = allocate.rate_distortion(costs, harms, float(budget))
    spent = sum(c[i] for c, i in zip(costs, chosen, strict=True))
    assert spent <= budget
    harm = sum(h[i] for h, i in zip(harms, chosen, strict=True))
    assert harm == pytest.approx(brute_force(costs, harms, budget), abs=1e-12)


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
def test_rate_and_distortion_reach_the_sparsity_within_a_thousandth(density: float) -> None:
    rng = np.random.default_rng(1)
    sizes = [70_000, 9_000, 300_000]
    options = np.array([1.0, 0.5, 0.2, 0.1, 0.05, 0.01, 0.001])
    costs = [np.round(options * n) for n in sizes]
    harms = [np.sort(rng.random(7)) for _ in sizes]
    budget = float(round(density * sum(sizes)))
    chosen = allocate.rate_distortion(costs, harms, budget)
    spent = allocate.filled(chosen, costs, harms, budget)
    assert all(s >= c[i] for s, c, i in zip(spent, costs, chosen, strict=True))
    assert abs(spent.sum() / sum(sizes) - density) < 1e-3


def test_the_largest_amounts_that_fit() -> None:
    found = allocate.largest_fitting(lambda t: [int(100 * t)], lambda a: a[0] ** 2, 400)
    assert found == [20]
    assert allocate.largest_fitting(lambda t: [7], lambda a: 7.0, 1.0) == [7]  # none fits


@pytest.mark.parametrize("density", [0.15, 0.3, 0.5, 0.77, 0.9, 1.0])
def test_the_threshold_is_the_lowest_that_the_total_allows(density: float) -> None:
    rng = np.random.default_rng(3)
    magnitudes = [rng.random(17), 2 * rng.random(9), 0.1 * rng.random(30)]
    sizes = np.array([17, 9, 30])
    floor = np.ceil(allocate.FLOOR * density * sizes)
    every = np.sort(np.concatenate(magnitudes))[::-1]
    fitting = []
    for cut in [np.inf, *every]:
        kept = np.maximum([(m >= cut).sum() for m in magnitudes], floor)
        if kept.sum() <= round(density * 56):
            fitting.append(kept)
    found = allocate.by_magnitude(magnitudes, density)
    assert (found * sizes).round().tolist() == fitting[-1].tolist()


def test_what_rounding_leaves_goes_where_most_was_cut_off() -> None:
    assert allocate.counts(np.array([0.5, 0.25]), [10, 8], 7 / 18) == [5, 2]
    assert allocate.counts(np.array([0.26, 0.74]), [10, 10], 0.5) == [3, 7]
    # one weight of the first layer was not planned: the second has all that it asked for
    assert allocate.counts(np.array([0.001, 0.004, 0.0029]), [10, 1000, 1000], 6 / 2010) == [
        1,
        3,
        2,
    ]
    assert allocate.counts(np.array([0.1, 0.1]), [4, 4], 0.1) == [1, 1]  # fewer there cannot be


def test_what_a_grid_leaves_over_goes_where_it_helps_most() -> None:
    costs = [np.array([10.0, 4.0, 1.0])] * 2
    harms = [np.array([0.0, 3.0, 9.0]), np.array([0.0, 1.0, 2.0])]
    assert allocate.filled([2, 2], costs, harms, 8.0).tolist() == [7.0, 1.0]
    assert allocate.filled([2, 2], costs, harms, 13.0).tolist() == [10.0, 3.0]
    assert allocate.filled([0, 0], costs, harms, 30.0).tolist() == [10.0, 10.0]
    assert allocate.filled([2, 2], costs, harms, 2.0).tolist() == [1.0, 1.0]
