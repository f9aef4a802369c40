"""Expected improvement against hypervolume itself: exact where known, sampled where not."""

import numpy as np
import pytest

from nas.core.pareto import hypervolume, non_dominated
from nas.strategies.improvement import boxes, expected_improvement


def a_front(objectives, seed=0):
    points = np.random.default_rng(seed).random((14, objectives))
    return points[non_dominated(points)], np.full(objectives, 0.9)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_known_candidates_add_exactly_their_hypervolume(objectives):
    front, reference = a_front(objectives)
    new = np.random.default_rng(1).random((30, objectives))
    found = expected_improvement(new, np.zeros_like(new), *boxes(front, reference), chunk=100)
    before = hypervolume(front, reference)
    truth = [hypervolume(np.vstack([front, x]), reference) - before for x in new]
    assert np.allclose(found, truth, atol=1e-12)


@pytest.mark.parametrize("objectives", [2, 3])
def test_uncertain_candidates_add_the_mean_of_what_they_may_be(objectives):
    front, reference = a_front(objectives)
    rng = np.random.default_rng(2)
    mean, deviation = rng.random((3, objectives)), np.zeros((3, objectives))
    deviation[:, 0], deviation[:, -1] = 0.2, 0.1
    found = expected_improvement(mean, deviation, *boxes(front, reference))
    before = hypervolume(front, reference)
    for i in range(3):
        draws = mean[i] + deviation[i] * rng.normal(size=(1500, objectives))
        gains = [hypervolume(np.vstack([front, d]), reference) - before for d in draws]
        assert found[i] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(1500))


def test_without_a_front_all_that_is_below_the_reference_is_won():
    low, high = boxes(np.zeros((0, 2)), np.array([1.0, 2.0]))
    found = expected_improvement(np.array([[0.5, 0.5]]), np.zeros((1, 2)), low, high)
    assert found[0] == pytest.approx(0.75)
