"""Stated probabilities of membership come true as often as they say."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.membership import _on_front, membership, verdict
from nas.core.pareto import non_dominated


def test_without_doubt_membership_is_the_front() -> None:
    points = np.random.default_rng(0).random((60, 2))
    shares = membership(points, np.zeros_like(points))
    assert shares.tolist() == non_dominated(points).astype(float).tolist()


def test_two_equal_points_with_doubt_share_the_front() -> None:
    # One is dominated when both of its numbers are drawn worse: a quarter of the time.
    shares = membership([[1.0, 1.0], [1.0, 1.0]], np.full((2, 2), 0.1), draws=20_000)
    assert shares == pytest.approx([0.75, 0.75], abs=0.01)


def test_against_the_closed_form_of_two_points() -> None:
    # The second is dominated where a N(0.5, 1) difference of the doubtful objective is positive.
    shares = membership([[0.0, 0.0], [0.5, 1.0]], [[1.0, 0.0], [0.0, 0.0]], draws=50_000)
    assert shares[0] == 1.0
    assert shares[1] == pytest.approx(0.3085, abs=0.01)


def test_what_all_points_share_decides_nothing() -> None:
    rng = np.random.default_rng(4)
    values, errors = rng.random((30, 2)), np.full((30, 2), 0.05)
    alone = membership(values, errors, draws=4000)
    together = membership(values, errors, np.full((30, 2), 0.7), draws=4000)
    assert together == pytest.approx(alone, abs=1e-12)


def test_one_point_predicted_and_one_measured() -> None:
    # Both are equal, and the first one's first number is doubtful: it is the better one half of
    # the time, and dominated in the other half.
    shares = membership([[1.0, 1.0], [1.0, 1.0]], np.zeros((2, 2)), [[0.3, 0.0], [0.0, 0.0]],
                        draws=20_000)  # fmt: skip
    assert shares == pytest.approx([0.5, 0.5], abs=0.015)


def test_the_same_numbers_give_the_same_answer() -> None:
    rng = np.random.default_rng(1)
    values, errors = rng.random((30, 2)), np.full((30, 2), 0.05)
    assert membership(values, errors).tolist() == membership(values, errors).tolist()
    assert membership(np.zeros((0, 2)), np.zeros((0, 2))).tolist() == []


def test_leaving_out_the_hopeless_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((80, 2))
    errors = np.column_stack([rng.uniform(0.0, 0.03, 80), np.zeros(80)])
    drawn = values + np.random.default_rng(9).standard_normal((8000, 80, 2)) * errors
    plain = np.mean([non_dominated(points) for points in drawn], axis=0)
    assert membership(values, errors, draws=8000) == pytest.approx(plain, abs=0.025)
    assert not membership(values, errors)[plain == 0].any()


def test_a_thousand_points_take_no_time() -> None:
    rng = np.random.default_rng(0)
    values, errors = rng.random((1000, 2)), np.full((1000, 2), 0.002)
    began = time.process_time()
    membership(values, errors)
    assert time.process_time() - began < 1.0


def test_probabilities_are_calibrated_on_simulated_truth() -> None:
    """Truths drawn round observations, as a posterior with a flat prior has them.

    Observations lie on a band that rises from point to point by about the noise, so that
    membership is undecided for many. In each bin of stated probability the share that is truly on
    the front is that probability.
    """
    rng = np.random.default_rng(7)
    stated, true = [], []
    for study in range(150):
        cost = np.sort(rng.random(25))
        observed = np.column_stack([1 - np.sqrt(cost) + 0.05 * rng.standard_normal(25), cost])
        errors = np.column_stack([rng.uniform(0.02, 0.1, 25), np.zeros(25)])
        truth = observed + errors * rng.standard_normal(observed.shape)
        stated += membership(observed, errors, draws=400, seed=study).tolist()
        true += non_dominated(truth).tolist()
    probability, outcome = np.array(stated), np.array(true, dtype=float)
    for low, high in [(0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)]:
        inside = (probability >= low) & (probability < high)
        assert inside.sum() > 100
        assert outcome[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.05)


def test_verdicts() -> None:
    words = [verdict(p) for p in (1.0, 0.95, 0.94, 0.5, 0.49, 0.0)]
    assert words == ["certain", "certain", "likely", "likely", "possible", "possible"]


@given(st.data())
def test_with_one_known_objective_it_is_the_same_front_of_every_redraw(data: st.DataObject) -> None:
    few = st.integers(0, 4).map(float)  # so that many are equal
    drawn = np.array(data.draw(st.lists(st.lists(few, min_size=7, max_size=7), min_size=1)))
    known = np.array(data.draw(st.lists(few, min_size=7, max_size=7)))
    still, nothing = np.zeros(7), np.zeros((7, 2))
    for place in (0, 1):
        beside = [still, known] if place == 0 else [known, still]
        moves = np.array([place == 0, place == 1])
        mean, doubt = np.stack(beside, axis=1), np.tile(moves.astype(float), (7, 1))
        plain = np.zeros(7)
        for redraw in drawn:
            points = [redraw, known] if place == 0 else [known, redraw]
            plain += non_dominated(np.stack(points, axis=1))
        own, luck = drawn[:, :, None], np.zeros((len(drawn), 1, 1))
        found = _on_front(mean, doubt, nothing, moves, own, luck)
        assert found.tolist() == plain.tolist()


def test_how_many_redraws_are_looked_at_together_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    for objectives, known in ((2, 1), (2, 0), (3, 1)):
        values, errors = rng.random((40, objectives)), rng.random((40, objectives))
        errors[:, :known] = 0
        shared = errors / 3
        whole = membership(values, errors, shared, draws=100)
        monkeypatch.setattr("nas.core.membership.LOOKED_AT", 7)
        assert membership(values, errors, shared, draws=100).tolist() == whole.tolist()
        monkeypatch.undo()
