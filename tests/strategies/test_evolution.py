"""Our evolution: new networks as long as there are any, the young as parents, cheap."""

import time

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Integer
from nas.core.objective import BUILTIN
from nas.core.space import SearchSpace
from nas.core.trial import Event, History
from nas.strategies.evolution import Evolution

OBJECTIVES = [BUILTIN["accuracy"], BUILTIN["macs"]]


def space(decisions: int = 6, values: int = 4) -> SearchSpace:
    listed = [Integer(f"x{i}", 1, values) for i in range(decisions)]
    return SearchSpace("toy", listed, build=lambda choices, task: None)


def total(architecture: Architecture) -> float:
    return sum(float(v) for v in architecture.choices.values())


def grow(history: History, strategy: Evolution, trials: int, state: str = "complete") -> None:
    for _ in range(trials):
        [proposal] = strategy.propose(history, 1)
        number = len(history.proposals)
        payload = {"architecture": proposal.architecture.to_json(), "origin": "strategy",
                   "notes": dict(proposal.notes)}  # fmt: skip
        history.append(Event("proposed", number, payload))
        found = {"accuracy": 50.0, "macs": total(proposal.architecture)}
        history.append(Event("told", number, {"state": state, "values": found, "violations": {}}))


def proposed(history: History) -> list[Architecture]:
    stored = [e.payload["architecture"] for e in history.proposals.values()]
    return [Architecture.from_json(a) for a in stored]


def test_no_network_is_proposed_twice_while_there_are_others() -> None:
    history = History()
    grow(history, Evolution(space(), OBJECTIVES, seed=0), 300)
    assert len(set(proposed(history))) == 300


def test_goes_on_in_a_space_that_is_used_up() -> None:
    small = SearchSpace("toy", [Choice("kernel", [3, 5])], build=lambda choices, task: None)
    history = History()
    grow(history, Evolution(small, OBJECTIVES, seed=0, start=2), 30)
    assert {a.choices["kernel"] for a in proposed(history)} == {3, 5}


def test_proposals_get_better() -> None:
    history = History()
    grow(history, Evolution(space(10, 9), OBJECTIVES, seed=0), 200)
    totals = [total(a) for a in proposed(history)]
    random = 50  # the mean of ten draws from 0 .. 10
    assert np.mean(totals[-50:]) < random - 20


def test_the_first_proposals_spread_from_the_smallest_to_the_middle() -> None:
    history = History()
    strategy = Evolution(space(10, 9), OBJECTIVES, seed=0, start=40)
    grow(history, strategy, 40)
    totals = [total(a) for a in proposed(history)]
    assert len({a.key for a in proposed(history)}) == 40
    assert min(totals) < 20 and 40 < max(totals) < 75
    assert np.mean(totals) == pytest.approx(32, abs=6)


def test_old_results_have_no_children() -> None:
    """A dominating trial older than the population is no parent: its children would be near it."""
    line = SearchSpace("toy", [Integer("x0", 0, 10_000)], build=lambda choices, task: None)
    history = History()
    values = [0, *range(9000, 9010)]
    for number, x in enumerate(values):
        architecture = line.architecture({"x0": x})
        payload = {"architecture": architecture.to_json(), "origin": "user", "notes": {}}
        history.append(Event("proposed", number, payload))
        found = {"accuracy": 50.0, "macs": float(x)}
        result = {"state": "complete", "values": found, "violations": {}}
        history.append(Event("told", number, result))

    def children(population: int) -> list[float]:
        strategy = Evolution(
            line, OBJECTIVES, seed=0, start=0, population=population, tournament=200
        )
        return [float(p.architecture.choices["x0"]) for p in strategy.propose(history, 30)]

    assert min(children(population=10)) >= 6900
    assert max(children(population=11)) <= 2100


def test_failed_trials_are_no_parents() -> None:
    history = History()
    strategy = Evolution(space(), OBJECTIVES, seed=0, start=5)
    grow(history, strategy, 30, state="failed")
    assert strategy._ranked() == []


@pytest.mark.slow
def test_a_proposal_takes_under_five_milliseconds_after_a_thousand() -> None:
    history = History()
    strategy = Evolution(space(24, 8), OBJECTIVES, seed=0)
    grow(history, strategy, 1000)
    began = time.process_time()
    grow(history, strategy, 50)
    assert (time.process_time() - began) / 50 < 0.005
