"""Predictor search: what its predictors promise is tried."""

import numpy as np

from nas.core.decision import Choice
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event, History
from nas.strategies.choose import create

SPACE = SearchSpace(
    "wide", [Choice(f"d{i}", [0, 1, 2, 3]) for i in range(8)], build=lambda c, t: None
)
OBJECTIVES = [Objective("error", "%", "minimize", "trained")]


def errors(name, seed):
    strategy, history, found = create(name, SPACE, OBJECTIVES, seed=seed), History(), []
    for number in range(60):
        [proposal] = strategy.propose(history, 1)
        choices = proposal.architecture.choices
        found.append(float(sum(choices.values())))
        payload = {"architecture": proposal.architecture.to_json(), "origin": "strategy",
                   "notes": {}}  # fmt: skip
        history.append(Event("proposed", number, payload))
        told = {"state": "complete", "values": {"error": found[-1]}, "violations": {},
                "error": None}  # fmt: skip
        history.append(Event("told", number, told))
    return found


def test_finds_the_best_of_65536_where_random_search_does_not():
    ours = [min(errors("predictor", seed)) for seed in range(3)]
    random = [min(errors("random", seed)) for seed in range(3)]
    assert np.max(ours) <= 1.0 < np.min(random)


def test_begins_with_the_space():
    found = errors("predictor", 0)
    assert np.std(found[:20]) > 1.5 and np.mean(found[:20]) > 9


def test_searches_for_what_keeps_a_limit_while_nothing_was_trained():
    limit = Constraint.parse("macs<=2")
    strategy, history, over = create("predictor", SPACE, OBJECTIVES, [limit]), History(), []
    for number in range(40):
        [proposal] = strategy.propose(history, 1)
        over.append(limit.violation(sum(proposal.architecture.choices.values())))
        payload = {"architecture": proposal.architecture.to_json()}
        history.append(Event("proposed", number, payload))
        told = {"state": "infeasible", "values": {}, "violations": {str(limit): over[-1]}}
        history.append(Event("told", number, told))
    assert min(over[:20]) > 0 and np.mean(np.array(over[20:]) <= 0) > 0.5
