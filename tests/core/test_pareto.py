"""Fronts, ranks, crowding and hypervolume against their definitions and other packages."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna.samplers.nsgaii import _elite_population_selection_strategy as optuna_nsga2
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import create_trial

from nas.core.pareto import (
    Array,
    crowding,
    dominates,
    hypervolume,
    non_dominated,
    normalise,
    ranks,
)

# Few distinct values, so that ties and equal points are common.
POINTS = st.tuples(st.integers(1, 25), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)


def brute_non_dominated(points: Array) -> list[bool]:
    return [not any(all(q <= p) and any(q < p) for q in points) for p in points]


def brute_ranks(points: Array) -> list[int]:
    """Peels one front after another."""
    found, left, rank = [-1] * len(points), list(range(len(points))), 0
    while left:
        kept = brute_non_dominated(points[left])
        for place, on in zip(left, kept, strict=True):
            if on:
                found[place] = rank
        left = [i for i in left if found[i] < 0]
        rank += 1
    return found


@given(POINTS)
def test_non_dominated_by_definition(points: Array) -> None:
    assert non_dominated(points).tolist() == brute_non_dominated(points)


@given(POINTS)
def test_ranks_by_peeling_and_by_optuna(points: Array) -> None:
    assert ranks(points).tolist() == brute_ranks(points)
    assert ranks(points).tolist() == _fast_non_domination_rank(points).tolist()


@given(POINTS)
def test_dominance_is_an_order(points: Array) -> None:
    for a, b in itertools.combinations(points, 2):
        assert not (dominates(a, b) and dominates(b, a))
        assert not dominates(a, a)
        if dominates(a, b):
            assert all(dominates(a, c) for c in points if dominates(b, c))


@given(POINTS)
def test_each_point_off_the_front_is_dominated_from_the_front(points: Array) -> None:
    front = points[non_dominated(points)]
    assert all(
        any(dominates(f, p) for f in front)
        for p, on in zip(points, non_dominated(points), strict=True)
        if not on
    )


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_crowding_is_that_of_optuna(objectives: int) -> None:
    points = np.random.default_rng(objectives).random((40, objectives))
    trials = [create_trial(values=p.tolist()) for p in points]
    for number, trial in enumerate(trials):
        trial.number = number
    theirs = optuna_nsga2._calc_crowding_distance(list(trials))
    assert crowding(points) == pytest.approx([theirs[i] for i in range(40)])


def test_crowding_of_few_points_and_of_equal_ones() -> None:
    assert crowding([[1.0, 2.0]]).tolist() == [np.inf]
    assert crowding([[1.0, 2.0], [2.0, 1.0]]).tolist() == [np.inf, np.inf]
    assert np.isfinite(crowding([[0.0, 4.0], [1.0, 1.0], [2.0, 0.0]])).tolist() == [
        False, True, False,
    ]  # fmt: skip


@given(POINTS)
def test_normalised_columns_fill_the_unit_interval(points: Array) -> None:
    unit = normalise(points)
    assert unit.min() >= 0 and unit.max() <= 1
    for column, original in zip(unit.T, points.T, strict=True):
        assert column.max() == (1.0 if original.max() > original.min() else 0.0)


def brute_hypervolume(points: Array, reference: Array) -> float:
    """Counts unit boxes: exact where everything is a whole number."""
    low = points.min(axis=0)
    axes = [np.arange(a, b) for a, b in zip(low, reference, strict=True)]
    return float(sum(any(all(p <= box) for p in points) for box in itertools.product(*axes)))


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 3)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
    ),
    st.integers(2, 5),
)
def test_hypervolume_by_counting_boxes(points: Array, bound: int) -> None:
    reference = np.full(points.shape[1], float(bound))
    assert hypervolume(points, reference) == pytest.approx(brute_hypervolume(points, reference))


@given(POINTS)
def test_only_the_front_adds_to_the_hypervolume(points: Array) -> None:
    reference = np.full(points.shape[1], 4.0)
    front = points[non_dominated(points)]
    assert hypervolume(points, reference) == pytest.approx(hypervolume(front, reference))


def test_hypervolume_against_monte_carlo_in_four_dimensions() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((15, 4))
    samples = rng.random((100_000, 4))
    share = np.any(np.all(points[:, None] <= samples, axis=2), axis=0).mean()
    assert hypervolume(points, np.ones(4)) == pytest.approx(share, abs=0.005)


def test_nothing_is_a_front_too() -> None:
    empty = np.zeros((0, 2))
    assert non_dominated(empty).tolist() == [] and ranks(empty).tolist() == []
    assert hypervolume(empty, [1.0, 1.0]) == 0.0
    assert hypervolume([[2.0, 2.0]], [1.0, 1.0]) == 0.0


def test_what_is_not_known_adds_no_volume() -> None:
    known = [[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]
    beside = [*known, [np.nan, 0.0, 0.0]]
    assert hypervolume(beside, [3.0] * 3) == hypervolume(known, [3.0] * 3) == 10.0
