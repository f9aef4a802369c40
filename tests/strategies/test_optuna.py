"""Optuna's samplers learn from a history, keep generations in it, and put feasible first."""

import json
import math

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Integer
from nas.core.objective import BUILTIN, Constraint
from nas.core.pareto import hypervolume
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.strategies.choose import create
from nas.strategies.mirror import decode
from nas.strategies.optuna import OptunaStrategy
from nas.strategies.protocol import Strategy

SPACE = SearchSpace(
    "toy",
    [Integer(f"x{i}", 0, 15) for i in range(8)] + [Choice("kind", ["a", "b", "c", "d"])],
    build=lambda choices, task: None,
)
OBJECTIVES = [BUILTIN["accuracy"], BUILTIN["macs"]]
LIMIT = Constraint.parse("macs<=30")


def values(architecture: Architecture) -> dict[str, float]:
    """A front over the first decision, reached where the others are low (ZDT1, Zitzler 2000)."""
    xs = np.array([float(architecture.choices[f"x{i}"]) / 15 for i in range(8)])
    kind = "abcd".index(str(architecture.choices["kind"])) / 3
    far = 1 + 9 * (xs[1:].sum() + kind) / 8
    return {"accuracy": 100 - 10 * far * (1 - math.sqrt(xs[0] / far)), "macs": 100 * xs[0]}


def search(strategy: Strategy, trials: int, limit: Constraint | None = None) -> History:
    history = History()
    for number in range(trials):
        [proposal] = strategy.propose(history, 1)
        found = values(proposal.architecture)
        history.append(Event("proposed", number, {
            "architecture": proposal.architecture.to_json(),
            "origin": "strategy",
            "notes": json.loads(json.dumps(dict(proposal.notes))),
        }))  # fmt: skip
        excess = limit.violation(found["macs"]) if limit else 0.0
        payload = {"state": "complete", "values": found, "violations": {str(limit): excess}}
        if excess > 0:
            payload = {**payload, "state": "infeasible", "values": {"macs": found["macs"]}}
        history.append(Event("told", number, payload))
    return history


def reached(history: History) -> float:
    points = [
        [-e.payload["values"]["accuracy"], e.payload["values"]["macs"]]
        for e in history.results.values()
    ]
    return hypervolume(points, [-20.0, 110.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe", "evolution"])
def test_beats_random_search(name: str) -> None:
    trials = 250 if name != "tpe" else 80
    ours = [reached(search(create(name, SPACE, OBJECTIVES, seed=s), trials)) for s in range(3)]
    random = [
        reached(search(create("random", SPACE, OBJECTIVES, seed=s), trials)) for s in range(3)
    ]
    assert min(ours) > max(random)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe", "evolution"])
def test_learns_what_is_feasible_from_trials_that_were_never_trained(name: str) -> None:
    # About three in ten random proposals keep the limit.
    trials = 200 if name != "tpe" else 100
    history = search(create(name, SPACE, OBJECTIVES, [LIMIT], seed=0), trials, LIMIT)
    random = search(create("random", SPACE, OBJECTIVES, [LIMIT], seed=0), trials, LIMIT)
    kept, chance = (
        [h.results[n].payload["state"] == "complete" for n in range(trials)]
        for h in (history, random)
    )
    assert np.mean(kept[-50:]) > 0.8 and np.mean(chance) < 0.6


def test_generations_are_in_the_notes() -> None:
    history = search(create("nsga2", SPACE, OBJECTIVES, seed=0), 120)
    notes = [e.payload["notes"] for e in history.proposals.values()]
    generations = [next(iter(n["trial"].values())) for n in notes]
    assert generations == sorted(generations) and set(generations) == {0, 1, 2}
    parents = [n["study"] for n in notes if "study" in n]
    assert [len(next(iter(p.values()))) for p in parents] == [50, 50]


def test_without_its_notes_nsga2_would_forget() -> None:
    """The notes are needed: a history without them leads elsewhere."""
    history = search(create("nsga2", SPACE, OBJECTIVES, seed=0), 60)
    bare = History()
    for event in history.events:
        stripped = {
            **event.payload,
            "notes": {"params": event.payload.get("notes", {}).get("params")},
        }
        bare.append(
            Event(event.kind, event.trial, stripped if event.kind == "proposed" else event.payload)
        )
    kept, lost = (
        OptunaStrategy("NSGAIISampler", SPACE, OBJECTIVES, [], 0).propose(h, 1)
        for h in (history, bare)
    )
    assert kept != lost


def test_reads_only_what_is_new() -> None:
    strategy = OptunaStrategy("RandomSampler", SPACE, OBJECTIVES, [], 0)
    history = search(strategy, 20)
    strategy.propose(history, 0)
    mirror = strategy._mirror
    strategy.propose(history, 0)
    assert strategy._mirror is mirror


def test_another_history_starts_anew() -> None:
    strategy = OptunaStrategy("TPESampler", SPACE, OBJECTIVES, [], 0)
    search(strategy, 20)
    other = search(create("tpe", SPACE, OBJECTIVES, seed=9), 20)
    fresh = OptunaStrategy("TPESampler", SPACE, OBJECTIVES, [], 0)
    assert strategy.propose(other, 2) == fresh.propose(other, 2)


@pytest.mark.parametrize("name", ["nsga2", "tpe", "gp", "qmc"])
def test_a_result_of_another_network_is_learnt_as_of_that_one(name: str) -> None:
    """A table without a row for what was asked tells of the nearest one."""
    strategy, history = create(name, SPACE, OBJECTIVES, seed=0), History()
    assert isinstance(strategy, OptunaStrategy)
    for number in range(12):
        [proposal] = strategy.propose(history, 1)
        assert [proposal] == create(name, SPACE, OBJECTIVES, seed=0).propose(history, 1)
        even = {n: v - v % 2 if isinstance(v, int) else v
                for n, v in proposal.architecture.choices.items()}  # fmt: skip
        row = SPACE.architecture(even)
        notes = json.loads(json.dumps(dict(proposal.notes)))
        payload = {"architecture": row.to_json(), "origin": "strategy", "notes": notes}
        history.append(Event("proposed", number, payload))
        result = {"state": "complete", "values": values(row), "violations": {}}
        history.append(Event("told", number, result))
    strategy.propose(history, 0)
    for trial in strategy._mirror._study.get_trials():
        row = decode(SPACE, dict(trial.params))
        assert trial.values == list(values(row).values())
        assert all(row.choices[f"x{i}"] % 2 == 0 for i in range(8))


def test_presets_count_as_trials() -> None:
    strategy = create("nsga2", SPACE, OBJECTIVES, seed=0)
    history = History()
    rng = np.random.default_rng(0)
    for number in range(50):
        proposal = Proposal(SPACE.sample(rng), {}, "preset")
        payload = {"architecture": proposal.architecture.to_json(), "origin": "preset", "notes": {}}
        history.append(Event("proposed", number, payload))
        result = {"state": "complete", "values": values(proposal.architecture), "violations": {}}
        history.append(Event("told", number, result))
    [child] = strategy.propose(history, 1)
    # Fifty presets are a whole generation, so the first proposal already has parents.
    assert list(child.notes["trial"].values()) == [1]
    assert len(next(iter(child.notes["study"].values()))) == 50
