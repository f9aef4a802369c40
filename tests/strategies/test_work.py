"""The work of networks: known of those built, counted for a few, predicted of the rest."""

import numpy as np
import pytest
from counted_space import OBJECTIVES, SPACE, Asked, macs, tried

from nas.core.trial import History
from nas.strategies.candidates import Genes
from nas.strategies.observations import Observations
from nas.strategies.surrogate import FIRST, SHORT, Surrogate
from nas.strategies.work import Work


def past(count, seed=0):
    rng = np.random.default_rng(seed)
    return [e for n in range(count) for e in tried(n, SPACE.sample_sized(rng, rng.random()))]


def learnt(count, asked):
    genes = Genes(SPACE)
    found, work = Observations(genes, OBJECTIVES, ()), Work(genes, asked)
    found.follow(History(past(count)))
    work.learn(found, count)
    return genes, found, work


def test_what_was_built_is_known_and_what_was_looked_at_is_until_the_next_proposal():
    genes, found, work = learnt(12, asked := Asked())
    built = found.code(found.trials)
    assert work(built) == pytest.approx([np.log(macs(genes.architecture(c))) for c in built])
    new = genes.sample(5, np.random.default_rng(9))
    before, truth = work(new), [np.log(macs(genes.architecture(c))) for c in new]
    work.look(new)
    assert work(new) == pytest.approx(truth)
    assert np.abs(before - truth).max() > 1e-3
    work.learn(found, 12)
    assert work(new).tolist() == before.tolist()
    work.look(built)
    assert [len(call) for call in asked.calls] == [5]


def test_the_rest_is_predicted_and_ever_better():
    off = {}
    for count in (8, 60):
        genes, _, work = learnt(count, Asked())
        new = genes.sample(200, np.random.default_rng(9))
        truth = np.array([np.log(macs(genes.architecture(c))) for c in new])
        off[count] = float(np.median(np.abs(work(new) - truth)))
    assert off[60] < min(0.15, 0.6 * off[8])


def test_relative_work_is_one_for_the_usual_network():
    _, found, work = learnt(9, Asked())
    assert np.median(work.relative(found.code(found.trials))) == pytest.approx(1.0)


def test_where_nothing_can_be_counted_all_work_is_alike():
    genes = Genes(SPACE)
    work = Work(genes, lambda architectures: [{} for _ in architectures])
    work.learn(Observations(genes, OBJECTIVES, ()), 0)
    codes = genes.sample(3, np.random.default_rng(0))
    work.look(codes)
    assert work(codes).tolist() == [0.0] * 3 and work.relative(codes).tolist() == [1.0] * 3


def search(trials, asked, seed=1):
    history = History()
    for number in range(trials):
        [proposal] = Surrogate(SPACE, OBJECTIVES, (), seed, None, asked).propose(history, 1)
        for event in tried(number, proposal.architecture):
            history.append(event)
    return history


def test_a_proposal_counts_few_and_one_that_goes_on_from_a_history_proposes_the_same():
    asked = Asked()
    fresh = search(FIRST + 6, asked)
    assert len(asked.calls) == 6 and all(len(call) <= SHORT for call in asked.calls)
    lived, history = Surrogate(SPACE, OBJECTIVES, (), 1, None, Asked()), History()
    for number in range(FIRST + 6):
        [proposal] = lived.propose(history, 1)
        assert proposal.architecture.to_json() == fresh.proposals[number].payload["architecture"]
        for event in tried(number, proposal.architecture):
            history.append(event)


def test_less_work_is_done_than_without_counts():
    """Of two that promise as much, the one that takes less to train comes first."""
    work = {}
    for name, counts in (("counted", Asked()), ("blind", None)):
        history = History()
        strategy = Surrogate(SPACE, OBJECTIVES, (), 2, None, counts)
        for number in range(24):
            [proposal] = strategy.propose(history, 1)
            for event in tried(number, proposal.architecture):
                history.append(event)
        architectures = [e.payload["architecture"] for e in history.proposals.values()]
        work[name] = sum(macs(SPACE.architecture(a["choices"])) for a in architectures[FIRST:])
    assert work["counted"] < 0.8 * work["blind"]
