"""Who goes on at a rung: the good are never stopped, the dominated mostly are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.pareto import Array, dominates, non_dominated
from nas.core.promotion import (
    FULL,
    LATEST,
    RULES,
    Reached,
    Standing,
    beats,
    bracket,
    halving,
    judged,
    leading,
    none,
    order,
)  # fmt: skip

VALUES = st.tuples(st.integers(-4, 4).map(float), st.integers(-4, 4).map(float))
STANDINGS = st.builds(Standing, VALUES, st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.5, -0.2]))
REDUCTIONS = st.integers(2, 5)


@given(st.lists(STANDINGS, max_size=40), STANDINGS, REDUCTIONS)
def test_what_no_earlier_trial_beats_is_never_stopped(
    earlier: list[Standing], trial: Standing, reduction: int
) -> None:
    better = tuple(min((s.values[i] for s in earlier), default=0.0) - 1.0 for i in range(2))
    for rule in RULES.values():
        assert rule(earlier, Standing(better), reduction)
        if not any(beats(s, trial) for s in earlier):
            assert rule(earlier, trial, reduction)


@given(st.lists(STANDINGS, max_size=60), STANDINGS, REDUCTIONS)
def test_what_would_be_an_arrival_of_the_best_share_goes_on(
    earlier: list[Standing], trial: Standing, reduction: int
) -> None:
    everyone = [*earlier, trial]
    best = order(everyone)[: -(-len(everyone) // reduction)]
    if len(earlier) in best:
        assert halving(earlier, trial, reduction)
    elif any(beats(s, trial) for s in earlier):
        assert not halving(earlier, trial, reduction)


@given(st.lists(STANDINGS, min_size=1, max_size=40))
def test_order_is_feasible_then_rank_then_violation(standings: list[Standing]) -> None:
    placed = order(standings)
    assert sorted(placed) == list(range(len(standings)))
    ranked = [standings[i] for i in placed]
    broken = [s.violation > 0 for s in ranked]
    assert broken == sorted(broken)
    worst = [s.violation for s in ranked if s.violation > 0]
    assert worst == sorted(worst)
    for place, one in enumerate(ranked):
        assert not any(beats(later, one) for later in ranked[place + 1 :])


@given(STANDINGS, STANDINGS)
def test_constraints_come_before_objectives(one: Standing, other: Standing) -> None:
    assert not (beats(one, other) and beats(other, one))
    if one.violation <= 0 < other.violation:
        assert beats(one, other)
    if one.violation <= 0 and other.violation <= 0:
        assert beats(one, other) == dominates(one.values, other.values)


def test_the_deciding_front_keeps_its_ends() -> None:
    # All on one front: of nine, the best three are the two ends and the loneliest between.
    line = [Standing((float(x), float(-x))) for x in (0, 1, 2, 3, 4, 4.1, 4.2, 4.3, 9)]
    assert set(order(line)[:2]) == {0, 8}
    assert order(line)[2] == 7


def test_the_first_trial_goes_on_whatever_it_is() -> None:
    assert all(rule([], Standing((1.0, 1.0), violation=3.0), 3) for rule in RULES.values())


def test_without_a_rule_everybody_goes_on() -> None:
    assert none([Standing((0.0,))] * 9, Standing((1.0,)), 3)


def arrivals(points: Array, rungs: int) -> tuple[Array, Array]:
    """Asynchronous arrival at rungs that all tell the end: who came past them, who is on the front.

    Each goes as far as it may before the next arrives.
    """
    standings, kept = [Standing(tuple(p)) for p in points], np.ones(len(points), dtype=bool)
    for _ in range(rungs):
        came = np.flatnonzero(kept)
        for place, number in enumerate(came):
            earlier = [standings[i] for i in came[:place]]
            kept[number] = halving(earlier, standings[number], 3)
    return kept, non_dominated(points)


@pytest.mark.slow
@pytest.mark.parametrize("rungs", [1, 3])
@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("shape", ["uniform", "normal"])
def test_members_of_the_final_front_go_on_and_dominated_trials_do_not(
    objectives: int, shape: str, rungs: int
) -> None:
    """200 random points x 40 seeds at reduction 3."""
    members, dominated = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size = (200, objectives)
        points = rng.random(size) if shape == "uniform" else rng.standard_normal(size)
        for went_on, on_front in zip(*arrivals(points, rungs), strict=True):
            (members if on_front else dominated).append(went_on)
    assert np.mean(members) >= 0.95
    assert np.mean(dominated) <= 0.4


def test_hyperband_deals_trials_to_brackets_in_proportion() -> None:
    dealt = [bracket(t, rungs=3, reduction=3) for t in range(26)]
    assert [dealt.count(b) for b in range(3)] == [18, 6, 2]
    assert dealt[:13] == dealt[13:]
    assert bracket(5, rungs=1, reduction=3) == 0


@given(st.lists(STANDINGS, max_size=40), STANDINGS, REDUCTIONS)
def test_who_leads_or_came_first_goes_on_and_the_others_wait(
    earlier: list[Standing], trial: Standing, reduction: int
) -> None:
    beaten = [beats(trial, s) for s in earlier]
    assert leading(earlier, trial, reduction) == (len(earlier) < FULL or all(beaten))
    if leading(earlier, trial, reduction) and len(earlier) >= FULL:
        assert halving(earlier, trial, reduction)


def test_trials_are_judged_near_a_ninth_of_the_full_training() -> None:
    assert judged([1, 3, 9, 27], 3) == 1
    assert judged([12, 200], 3) == 0
    assert judged([1, 4, 16, 64], 4) == 1
    assert judged([10], 3) == 0


@given(st.lists(st.tuples(st.integers(0, 20), VALUES), max_size=30), VALUES, st.integers(0, 25))
def test_who_reached_a_rung_first_counts_and_who_beats_them_all_is_known(
    arrivals: list[tuple[int, tuple[float, ...]]], values: tuple[float, ...], number: int
) -> None:
    reached, first = Reached(), dict[int, Standing]()
    for other, theirs in arrivals:
        reached.add(other, Standing(theirs))
        first.setdefault(other, Standing(theirs))
    earlier = [first[n] for n in sorted(first) if n != number]
    assert reached.earlier(number) == earlier
    assert reached.beaten(number, Standing(values)) == all(
        beats(Standing(values), s) for s in earlier
    )


def test_the_best_is_known_of_all_and_the_rest_of_the_latest() -> None:
    reached = Reached()
    reached.add(0, Standing((0.0, 0.0)))
    for number in range(1, LATEST + 1):
        reached.add(number, Standing((float(number), 9.0)))
    assert [s.values[0] for s in reached.earlier(LATEST + 1)] == list(range(1, LATEST + 1))
    assert not reached.beaten(LATEST + 1, Standing((0.0, 0.0)))
    assert reached.beaten(LATEST + 1, Standing((0.0, -1.0)))
    reached.add(0, Standing((5.0, 5.0)))  # forgotten, so that it counts again
    assert len(reached.earlier(LATEST + 1)) == LATEST
    assert reached.earlier(LATEST + 1)[0] == Standing((5.0, 5.0))


def test_the_best_of_each_value_may_be_nobodys() -> None:
    reached = Reached()
    for number, values in enumerate([(0.0, 5.0), (1.0, 3.0)]):
        reached.add(number, Standing(values))
    assert reached.beaten(2, Standing((0.0, 3.0)))
