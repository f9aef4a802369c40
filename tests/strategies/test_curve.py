"""Stopped trials teach the surrogate, and are resumed where they promise more than a new one."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.decision import Choice
from nas.core.objective import Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.strategies.curve import Curve
from nas.strategies.observations import Observations
from nas.strategies.surrogate import Surrogate

SPACE = SearchSpace(
    "steps", [Choice(f"op{i}", [0, 1, 2, 3]) for i in range(6)], build=lambda choices, task: None
)
OBJECTIVES = (
    Objective("error", "%", "minimize", "trained"),
    Objective("macs", "MACs", "minimize", "module"),
)


def macs(architecture) -> dict[str, float]:
    return {"macs": float(1 + sum(architecture.choices.values()))}


def final(architecture) -> float:
    """Half of it follows from the choices, half is the network's own."""
    chosen = list(architecture.choices.values())
    own = zlib.crc32(repr(chosen).encode()) % 100 / 10
    return 40.0 - 2.0 * sum(chosen) + (chosen[0] - chosen[3]) ** 2 + own


def early(architecture) -> float:
    """What the final error is read off: twice as high, and a little besides."""
    return 2.0 * final(architecture) + 5.0 + 0.3 * architecture.choices["op5"]


def opened(number: int, proposal: Proposal) -> Event:
    if proposal.resumes is not None:
        return Event("resumed", proposal.resumes, {})
    payload = {"architecture": proposal.architecture.to_json(), "origin": "strategy", "notes": {}}
    return Event("proposed", number, payload)


def trained(number: int, epochs: int, error: float) -> Event:
    values = {"epochs": epochs, "score": 100.0 - error, "n": 100}
    return Event("reported", number, {"job": "train", "repeat": 0, "values": values})


def told(number: int, state: str, values: dict[str, float]) -> Event:
    return Event("told", number, {"state": state, "values": values, "violations": {}})


def lived(events: int, width: int = 3, seed: int = 2) -> tuple[History, Surrogate]:
    """A study of so many events; all but the first four trials are stopped after 3 of 27 epochs."""
    rng, history = np.random.default_rng(seed), History()
    strategy = Surrogate(SPACE, OBJECTIVES, seed=seed, costs=macs)
    running: list[int] = []
    made: dict[int, Proposal] = {}
    while len(history) < events:
        if len(running) < width and rng.random() < 0.6:
            [proposal] = strategy.propose(history, 1)
            number = len(history.proposals) if proposal.resumes is None else proposal.resumes
            history.append(opened(number, proposal))
            made[number] = proposal
            running.append(number)
        elif running:
            number = running.pop(int(rng.integers(len(running))))
            network = made[number].architecture
            if number not in history.resumed:
                history.append(trained(number, 3, early(network)))
            if number < 4 or number in history.resumed:
                history.append(trained(number, 27, final(network)))
                values = {"error": final(network), **macs(network)}
                history.append(told(number, "complete", values))
            else:
                values = {"error": early(network), **macs(network)}
                history.append(told(number, "stopped", values))
    return history, strategy


def stored(events: list[Event]) -> History:
    return History([Event.from_json(json.loads(json.dumps(e.to_json()))) for e in events])


@pytest.fixture(scope="module")
def study() -> tuple[History, Surrogate]:
    return lived(200)


def test_stopped_trials_are_resumed_once_each_and_named_by_their_architecture(study) -> None:
    history, _ = study
    resumed = [e.trial for e in history.events if e.kind == "resumed"]
    assert len(resumed) > 5 and len(set(resumed)) == len(resumed)
    for place, event in enumerate(history.events):
        if event.kind == "resumed":
            ended = [e for e in history.events[:place] if e.trial == event.trial][-1]
            assert (ended.kind, ended.payload["state"]) == ("told", "stopped")


def test_what_is_resumed_is_better_than_what_is_not(study) -> None:
    history, _ = study
    made = [Architecture.from_json(e.payload["architecture"]) for e in history.proposals.values()]
    # the error beyond what its cost lets every network have
    excess = [final(a) + 2.0 * macs(a)["macs"] for a in made]
    left = [d for n, d in enumerate(excess) if n not in history.resumed and n >= 4]
    assert np.mean([excess[n] for n in history.resumed]) < np.mean(left) - 1.0


def test_a_fresh_instance_takes_the_same_decisions(study) -> None:
    history, _ = study
    own = [i for i, e in enumerate(history.events) if e.kind in ("proposed", "resumed")]
    for cut in [*own[20:80:6], *own[-4:]]:
        fresh = Surrogate(SPACE, OBJECTIVES, seed=2, costs=macs)
        past = stored(history.events[:cut])
        [proposal] = fresh.propose(past, 1)
        event = history.events[cut]
        assert opened(len(past.proposals), proposal).to_json() == event.to_json(), f"event {cut}"


def test_a_batch_is_one_proposal_after_another(study) -> None:
    history, _ = study
    cuts = [i for i, e in enumerate(history.events) if e.kind == "resumed"][:8:3]
    for cut in cuts:
        past = stored(history.events[:cut])
        batch = Surrogate(SPACE, OBJECTIVES, seed=2, costs=macs).propose(past, 3)
        assert batch[0].resumes is not None
        strategy = Surrogate(SPACE, OBJECTIVES, seed=2, costs=macs)
        for expected in batch:
            [one] = strategy.propose(past, 1)
            assert one == expected
            past.append(opened(len(past.proposals), one))


def test_a_resumed_trial_that_fails_is_left_alone() -> None:
    history, strategy = lived(90)
    for _ in range(12):
        [proposal] = strategy.propose(history, 1)
        number = len(history.proposals) if proposal.resumes is None else proposal.resumes
        assert number not in history.resumed
        history.append(opened(number, proposal))
        history.append(told(number, "failed", {}))


def test_the_curve_reads_a_value_at_the_rung_where_there_is_one(study) -> None:
    _, strategy = study
    past = strategy._past
    curve = Curve(strategy._genes, past, strategy._extras, 0)
    assert curve.learn(len(past.told))
    away = strategy._genes.sample(200, np.random.default_rng(0))
    fresh = away[[code.tobytes() not in past.seen for code in away]]

    def missed(codes) -> tuple[float, float]:
        truth = np.array([final(strategy._genes.architecture(code)) for code in codes])
        mean, deviation = curve.predict(codes, strategy._extras(codes))
        return float(np.abs(mean - curve.warp(truth)).mean()), float(np.median(deviation))

    there, elsewhere = missed(past.code(past.stopped)), missed(fresh)
    assert there[0] < 0.75 * elsewhere[0] and there[1] < elsewhere[1]


def test_what_the_first_results_say_does_not_change_with_later_ones(study) -> None:
    history, strategy = study
    past = strategy._past
    ends = [i for i, e in enumerate(history.events) if e.kind == "told"]
    for count in (30, 50):
        then = Observations(strategy._genes, OBJECTIVES, ())
        then.follow(History(history.events[: ends[count - 1] + 1]))
        assert then.told == past.told[:count]
        for ours, theirs in [
            (past.rung(count), then.rung(count)),
            (past.objective(0, count, guessed=False), then.objective(0, count, guessed=False)),
        ]:
            assert ours.trials.tolist() == theirs.trials.tolist()
            assert ours.values.tolist() == theirs.values.tolist()
