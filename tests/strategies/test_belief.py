"""A belief forgets nothing it should know and remembers nothing it should not."""

import numpy as np
import pytest

from nas.core.decision import Choice
from nas.core.space import SearchSpace
from nas.strategies.belief import KEPT, Belief, Evidence, Warp, usual, warp
from nas.strategies.candidates import Genes
from nas.strategies.kernel import Embedding

SPACE = SearchSpace(
    "flat", [Choice(f"d{i}", [0, 1, 2]) for i in range(5)], build=lambda choices, task: None
)
GENES = Genes(SPACE)


def evidence(count, seed=0, noise=0.05):
    rng = np.random.default_rng(seed)
    codes = GENES.sample(count, rng)
    values = truth(codes) + noise * rng.normal(size=count)
    return Evidence(codes, codes[:, :1] * 3.0, values, np.zeros(count))


def truth(codes):
    return codes[:, 0] + 0.5 * (codes[:, 1] == 2) * codes[:, 2]


def first(data, count):
    return data.part(np.arange(count))


def believe(data, steps, warped=False):
    belief = Belief(Embedding(GENES, 1), warped)
    for count in steps:
        belief.learn(first(data, count), count, lambda n: first(data, n))
    return belief


def test_the_warp_is_a_line_up_to_its_knee_and_smooth_there():
    scale = Warp(10.0, 2.0)
    assert scale(np.array([3.0, 10.0])).tolist() == [3.0, 10.0]
    step = scale(np.array([10.0, 10.001, 90.0]))
    assert step[1] == pytest.approx(10.001, abs=1e-6) and 10.001 < step[2] < 20
    numeric = np.diff(scale(np.array([15.0, 15.0001])))[0] / 0.0001
    assert scale.slope(np.array([15.0]))[0] == pytest.approx(numeric, rel=1e-3)


def test_a_constant_quantity_has_a_scale_too():
    assert warp(np.full(5, 3.0)).spread > 0


def test_failures_have_no_say_in_the_scale_of_what_succeeds():
    """Seven in ten diverge to a million: it is the scale of the others, which failures end."""
    good = np.linspace(20.0, 30.0, 30)
    all_of_them = np.concatenate([good, np.full(70, 1e6)])
    found = warp(all_of_them)
    assert 20.0 < found.knee < 30.0 and found.spread < 10.0
    bad = found(np.array([1e4, 1e6, 1e9]))
    assert np.ptp(bad) == 0 and bad[0] < 60.0 and bad[0] >= found(good).max()


def test_a_few_diverged_ones_are_no_worse_than_a_bad_network():
    values = np.concatenate([np.linspace(20.0, 40.0, 88), np.full(12, 1e4)])
    found = warp(values)
    assert usual(values) == 0.5 and found.knee == np.median(values)
    assert found(np.array([1e4]))[0] < 60.0


def test_what_only_trains_badly_keeps_its_place():
    values = np.concatenate([np.linspace(6.0, 12.0, 90), np.linspace(40.0, 90.0, 10)])
    found = warp(values)
    assert found.ceiling == np.inf
    assert np.all(np.diff(found(values)) > 0)


def test_unseen_codes_are_predicted_within_the_stated_doubt():
    belief = believe(evidence(120), [120])
    new = GENES.sample(200, np.random.default_rng(9))
    mean, deviation = belief.predict(new, new[:, :1] * 3.0)
    error = mean - truth(new)
    assert np.sqrt(np.mean(error**2)) < 0.15
    assert np.mean(np.abs(error) < 2 * deviation + 0.05) > 0.9


def test_beliefs_share_the_time_of_a_proposal_where_they_are_many():
    """Time grows with the square of the values; few beliefs of few features keep all of them."""
    data, found = evidence(700), {}
    for beliefs in (1, 2, 5, 20):
        belief = Belief(Embedding(GENES, 1), False, beliefs=beliefs)
        belief.learn(data, 700, lambda n: first(data, n))
        found[beliefs] = len(belief._values)
        new = GENES.sample(200, np.random.default_rng(9))
        error = belief.predict(new, new[:, :1] * 3.0)[0] - truth(new)
        assert np.sqrt(np.mean(error**2)) < 0.15
    assert found[1] == found[2] == KEPT
    assert 20 * found[20] ** 2 == pytest.approx(5 * found[5] ** 2, rel=0.02)
    assert found[5] < KEPT


def test_what_is_believed_depends_on_the_evidence_alone():
    data = evidence(60)
    new = GENES.sample(20, np.random.default_rng(9))
    lived = believe(data, range(4, 61), warped=True).predict(new, new[:, :1])
    fresh = believe(data, [60], warped=True).predict(new, new[:, :1])
    assert np.array_equal(lived[0], fresh[0]) and np.array_equal(lived[1], fresh[1])


def test_what_is_imagined_is_surer_and_no_different():
    belief = believe(evidence(30), [30])
    new = GENES.sample(5, np.random.default_rng(9))
    before = belief.predict(new, new[:, :1] * 3.0)
    belief.imagine(new[:2], new[:2, :1] * 3.0)
    after = belief.predict(new, new[:, :1] * 3.0)
    assert np.allclose(before[0], after[0])
    assert (after[1][:2] < before[1][:2]).all()


def test_a_wild_bad_value_does_not_bend_its_surroundings():
    data = evidence(80)
    wild = data.values.copy()
    wild[40] += 30.0
    belief = believe(Evidence(data.codes, data.extras, wild, data.doubt), [80])
    apart = (data.codes != data.codes[40]).any(axis=1)
    mean, _ = belief.predict(data.codes[apart], data.extras[apart])
    assert np.sqrt(np.mean((mean - truth(data.codes[apart])) ** 2)) < 1.0


def test_a_doubtful_value_counts_less():
    data = evidence(40)
    doubt = np.zeros(40)
    doubt[7] = 100.0
    values = data.values.copy()
    values[7] += 3.0
    sure = believe(Evidence(data.codes, data.extras, values, np.zeros(40)), [40])
    unsure = believe(Evidence(data.codes, data.extras, values, doubt), [40])
    at = data.codes[7:8], data.extras[7:8]
    exact = truth(data.codes[7:8])[0]
    assert abs(unsure.predict(*at)[0][0] - exact) < abs(sure.predict(*at)[0][0] - exact)
