"""A search under a tight limit, with and without a look at the work of what it proposes."""

from __future__ import annotations

import numpy as np
import pytest
from counted_space import OBJECTIVES, SPACE, Asked, macs, proposed, tried

from nas.core.objective import Constraint
from nas.core.trial import Event, History
from nas.strategies.candidates import Genes
from nas.strategies.lighter import TOLD, Lighter
from nas.strategies.observations import Observations
from nas.strategies.surrogate import Surrogate
from nas.strategies.work import Work

LIMIT = "latency_ms<=12"


def ended(number, architecture):
    """A trial under the limit: beyond it, it is never trained."""
    excess = Constraint.parse(LIMIT).violation(macs(architecture) / 1e5)
    *before, told = tried(number, architecture)
    if excess > 0:
        values = {"latency_ms": macs(architecture) / 1e5}
        payload = {"state": "infeasible", "values": values, "error": None}
    else:
        payload = dict(told.payload)
    return [*before, Event("told", number, {**payload, "violations": {LIMIT: excess}})]


def kept(counts, seed, trials=16):
    history = History()
    strategy = Surrogate(SPACE, OBJECTIVES, (Constraint.parse(LIMIT),), seed, None, counts)
    for number in range(trials):
        [proposal] = strategy.propose(history, 1)
        for event in ended(number, proposal.architecture):
            history.append(event)
    return sum(e.payload["state"] == "complete" for e in history.results.values())


def test_a_tight_limit_costs_few_trials():
    drawn = [SPACE.sample(np.random.default_rng(n)) for n in range(200)]
    assert np.mean([macs(a) / 1e5 <= 12 for a in drawn]) < 0.1
    with_counts = [kept(Asked(), seed) for seed in range(4)]
    blind = [kept(None, seed) for seed in range(4)]
    assert sum(with_counts) >= 1.5 * sum(blind)
    assert min(with_counts) >= 8


def test_a_search_that_goes_on_from_its_history_proposes_the_same():
    limits = (Constraint.parse(LIMIT),)
    lived, history = Surrogate(SPACE, OBJECTIVES, limits, 3, None, Asked()), History()
    for number in range(14):
        [proposal] = lived.propose(history, 1)
        [again] = Surrogate(SPACE, OBJECTIVES, limits, 3, None, Asked()).propose(history, 1)
        assert again == proposal
        for event in ended(number, proposal.architecture):
            history.append(event)


def lighter(architectures, limits=(LIMIT,)):
    genes = Genes(SPACE)
    found, history = Observations(genes, OBJECTIVES, (Constraint.parse(LIMIT),)), History()
    for number, architecture in enumerate(architectures):
        for event in ended(number, architecture):
            history.append(event)
    found.follow(history)
    seen = {genes.code(a).tobytes() for a in architectures}
    asks = Lighter(SPACE, genes, Work(genes, Asked()), limits)
    code = asks.propose(found, [], seen, np.random.default_rng(0))
    return None if code is None else genes.architecture(code)


def wide(*widths):
    return SPACE.architecture({f"stages.{i}.width": w for i, w in enumerate(widths)})


HEAVY = [wide(64, 64, 64, 64, 64, w) for w in (64, 32, 16, 8)]


def test_where_nothing_kept_the_limit_much_less_work_is_tried():
    found = lighter(HEAVY)
    assert macs(found) <= 0.6 * min(map(macs, HEAVY))


def test_where_something_did_no_more_work_than_its_is_tried():
    light = wide(16, 16, 16, 16, 16, 16)
    found = lighter([*HEAVY, light])
    assert macs(found) <= macs(light) and found.key != light.key


@pytest.mark.parametrize(
    "trials", [HEAVY[: TOLD - 1], [HEAVY[0], *[wide(8, 8, 8, 8, 8, w) for w in (8, 16, 32)]]]
)
def test_few_trials_and_a_limit_that_most_keep_are_no_reason(trials):
    assert lighter(trials) is None


def test_limits_of_a_score_are_none_on_work():
    assert lighter(HEAVY, limits=()) is None
    strategy = Surrogate(SPACE, OBJECTIVES, (Constraint.parse("error<=5"),), 0, None, Asked())
    history = History()
    for number in range(4):
        architecture = HEAVY[number]
        told = tried(number, architecture)[-1]
        history.append(proposed(number, architecture))
        history.append(Event("told", number, {**told.payload, "violations": {"error<=5": 3.0}}))
    [proposal] = strategy.propose(history, 1)
    assert proposal.architecture.key not in {a.key for a in HEAVY}
