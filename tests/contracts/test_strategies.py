"""What every strategy must do, whichever it is: above all, survive a restart without a trace."""

import functools
import json
import math

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Decision, Integer, Real
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.strategies.choose import create, names

QUICK = ["evolution", "local", "random", "nsga2", "nsga3", "qmc"]
ALL = [
    *QUICK,
    "predictor",
    pytest.param("surrogate", marks=pytest.mark.slow),
    pytest.param("tpe", marks=pytest.mark.slow),
    pytest.param("gp", marks=pytest.mark.long),
]
TRIALS = {"predictor": 60, "surrogate": 30, "tpe": 60, "gp": 20}

SPACE = SearchSpace(
    "zoo",
    [
        Choice("stem.stride", [1, 2]),
        Choice("mixer", ["plain", "gated", "split"]),
        Choice("kernel", [3, 5, 7, 13], within={"stem.stride": {2: [3, 5]}}),
        Choice("dilation", [1, 2, 3], when={"kernel": [3, 5]}),
        Choice("bias", [False, True], when={"mixer": ["plain", "split"]}),
        Integer("depth", 1, 9, step=2),
        Real("dropout", 0.0, 0.5),
        Real("scale", 1e-4, 1e-1, log=True, when={"mixer": ["gated"]}),
        Choice("head", ["pool"]),
    ],
    build=lambda choices, task: None,
    presets={
        "published": {
            "stem.stride": 2, "mixer": "plain", "kernel": 47, "bias": True, "depth": 3,
            "dropout": 0.1, "head": "pool",
        },
        "small": {
            "stem.stride": 2, "mixer": "gated", "kernel": 3, "dilation": 2, "depth": 1,
            "dropout": 0.0, "scale": 0.01, "head": "pool",
        },
    },
)  # fmt: skip
OBJECTIVES = (
    Objective("accuracy", "%", "maximize", "trained"),
    Objective("macs", "MACs", "minimize", "module"),
)
CONSTRAINTS = (Constraint.parse("macs<=60"), Constraint.parse("accuracy>=20"))


def macs(architecture: Architecture) -> float:
    choices = architecture.choices
    return float(choices["depth"]) * float(choices["kernel"]) / float(choices["stem.stride"])


def accuracy(architecture: Architecture) -> float:
    choices = architecture.choices
    gain = {"plain": 0.0, "gated": 3.0, "split": 5.0}[str(choices["mixer"])]
    return 40 + 20 * math.log10(1 + macs(architecture)) + gain - 30 * float(choices["dropout"])


def proposed(number: int, proposal: Proposal) -> Event:
    payload = {
        "architecture": proposal.architecture.to_json(),
        "origin": proposal.origin,
        "notes": dict(proposal.notes),
    }
    return Event("proposed", number, payload)


def told(number: int, architecture: Architecture, rng: np.random.Generator) -> Event:
    """Any of the ways a trial ends; measured numbers are noisy."""
    cost, score = macs(architecture), accuracy(architecture) + float(rng.normal())
    over = CONSTRAINTS[0].violation(cost)
    fate = rng.random()
    if over > 0:
        state, values, broken = "infeasible", {"macs": cost}, {"macs<=60": over}
    elif fate < 0.08:
        state, values, broken = "failed", {"macs": cost}, {"macs<=60": over}
    elif fate < 0.3:
        state, values, broken = "stopped", {"macs": cost, "accuracy": score - 15}, {}
    else:
        state, values = "complete", {"macs": cost, "accuracy": score}
        broken = {"macs<=60": over, "accuracy>=20": CONSTRAINTS[1].violation(score)}
    payload = {"state": state, "values": values, "violations": broken, "error": None}
    return Event("told", number, payload)


@functools.cache
def live(name: str, trials: int, seed: int = 3) -> History:
    """A study as it happens: presets first, batches, several in flight, ends out of order.

    Shared by the tests; none of them adds to it.
    """
    rng = np.random.default_rng(seed)
    strategy = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5)
    history, running = History(), {}
    foreign = Architecture("users_network", {"depth": 4})
    for number, architecture in enumerate([SPACE.preset("published"), foreign]):
        history.append(proposed(number, Proposal(architecture, {}, "preset")))
        running[number] = architecture
    while len(history.proposals) < trials:
        if len(running) < 6 and rng.random() < 0.7:
            if len(history.proposals) == trials // 2:
                batch = [Proposal(SPACE.preset("small"), {}, "user")]
            else:
                batch = strategy.propose(history, int(rng.integers(1, 4)))
            for proposal in batch:
                number = len(history.proposals)
                history.append(proposed(number, proposal))
                running[number] = proposal.architecture
        elif running:
            number = int(rng.choice(list(running)))
            architecture = running.pop(number)
            history.append(Event("reported", number, {"job": "build", "costs": {"macs": 1.0}}))
            if architecture is foreign:
                values = {"accuracy": 50.0, "macs": 20.0}
                payload = {"state": "complete", "values": values, "violations": {}}
                history.append(Event("told", number, payload))
            else:
                history.append(told(number, architecture, rng))
    return history


def stored(events: list[Event]) -> History:
    """What a fresh process reads from the database."""
    texts = [json.dumps(e.to_json(), sort_keys=True) for e in events]
    return History([Event.from_json(json.loads(t)) for t in texts])


@pytest.mark.parametrize("name", ALL)
def test_a_fresh_instance_takes_the_same_next_decision(name: str) -> None:
    trials = TRIALS.get(name, 170)
    history = live(name, trials)
    own = [
        place
        for place, event in enumerate(history.events)
        if event.kind == "proposed" and event.payload["origin"] == "strategy"
    ]
    rng = np.random.default_rng(0)
    cuts = {own[0], own[-1], *rng.choice(own, size=min(14, trials // 10), replace=False).tolist()}
    for cut in sorted(cuts):
        fresh = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5)
        [proposal] = fresh.propose(stored(history.events[:cut]), 1)
        then = history.events[cut].payload
        assert proposal.architecture.to_json() == then["architecture"], f"event {cut}"
        assert dict(proposal.notes) == then["notes"], f"event {cut}"


@pytest.mark.parametrize("name", ALL)
def test_what_was_proposed_but_never_recorded_is_forgotten(name: str) -> None:
    history = live(name, TRIALS.get(name, 70))
    lived = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5)
    early = stored(history.events[: len(history) // 2])
    lost = lived.propose(early, 2)
    assert lived.propose(early, 1) == lost[:1]
    fresh = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5)
    assert lived.propose(history, 1) == fresh.propose(stored(history.events), 1)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_one_proposal_after_another(name: str) -> None:
    history = live(name, TRIALS.get(name, 70))
    batch = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5).propose(history, 3)
    strategy, grown = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5), stored(history.events)
    for expected in batch:
        [one] = strategy.propose(grown, 1)
        assert one == expected
        grown.append(proposed(len(grown.proposals), one))


@pytest.mark.parametrize("name", ALL)
def test_proposals_are_legal_within_limits_and_plain_data(name: str) -> None:
    history = live(name, TRIALS.get(name, 120))
    strategy = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=5)
    size = len(history)
    proposals = strategy.propose(history, 2)
    assert len(proposals) == 2 and len(history) == size
    made = [Architecture.from_json(e.payload["architecture"]) for e in history.proposals.values()]
    own = [
        architecture
        for architecture, event in zip(made, history.proposals.values(), strict=True)
        if event.payload["origin"] == "strategy"
    ]
    for architecture in [*own, *(p.architecture for p in proposals)]:
        assert SPACE.check(architecture.choices) == []
        assert SPACE.architecture(architecture.choices) == architecture
        assert architecture.choices["kernel"] in (3, 5, 7, 13)
        if architecture.choices["stem.stride"] == 2:
            assert architecture.choices["kernel"] in (3, 5)
    for proposal in proposals:
        assert json.loads(json.dumps(dict(proposal.notes))) == dict(proposal.notes)
        assert proposal.origin == "strategy"


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides(name: str) -> None:
    def first(seed: int) -> list[Proposal]:
        return create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=seed).propose(History(), 4)

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("state", ["failed", "infeasible"])
def test_goes_on_when_nothing_works(name: str, state: str) -> None:
    broken = {"macs<=60": 0.5} if state == "infeasible" else {}
    strategy, history = create(name, SPACE, OBJECTIVES, CONSTRAINTS, seed=1), History()
    for number in range(TRIALS.get(name, 70)):
        [proposal] = strategy.propose(history, 1)
        history.append(proposed(number, proposal))
        payload = {"state": state, "values": {}, "violations": broken}
        history.append(Event("told", number, payload))
    assert len({e.payload["architecture"]["choices"]["dropout"]
                for e in history.proposals.values()}) > 5  # fmt: skip


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "decision", [Integer("depth", 1, 200), Choice("depth", [str(n) for n in range(1, 201)])],
    ids=["scale", "names"],
)  # fmt: skip
def test_one_objective_and_one_decision_are_enough(name: str, decision: Decision) -> None:
    space = SearchSpace("line", [decision], build=lambda choices, task: None)
    strategy = create(name, space, OBJECTIVES[:1], seed=1)
    history = History()
    for number in range(TRIALS.get(name, 60)):
        [proposal] = strategy.propose(history, 1)
        history.append(proposed(number, proposal))
        value = -abs(float(proposal.architecture.choices["depth"]) - 50)
        payload = {"state": "complete", "values": {"accuracy": value}, "violations": {}}
        history.append(Event("told", number, payload))
    fresh = create(name, space, OBJECTIVES[:1], seed=1)
    assert fresh.propose(stored(history.events), 2) == strategy.propose(history, 2)


@pytest.mark.parametrize(
    "name", ["evolution", "local", "predictor", pytest.param("surrogate", marks=pytest.mark.slow)]
)
def test_learns_of_what_broke_a_limit_and_was_never_trained(name: str) -> None:
    """Of all networks 2 % keep the limit; one that does not has its cost alone."""
    space = SearchSpace(
        "tight", [Choice(f"d{i}", [0, 1, 2, 3]) for i in range(6)], build=lambda choices, task: None
    )
    limit, kept = Constraint.parse("macs<=3"), []
    strategy, history = create(name, space, OBJECTIVES, [limit], seed=0), History()
    for number in range(70):
        [proposal] = strategy.propose(history, 1)
        history.append(proposed(number, proposal))
        cost = float(sum(proposal.architecture.choices.values()))
        over = limit.violation(cost)
        kept.append(over <= 0)
        values = {"macs": cost} if over > 0 else {"macs": cost, "accuracy": cost}
        state = "infeasible" if over > 0 else "complete"
        payload = {"state": state, "values": values, "violations": {str(limit): over}}
        history.append(Event("told", number, payload))
    assert np.mean(kept[30:]) >= 0.2


def test_every_strategy_is_held_to_this() -> None:
    plain = {n for n in names() if ":" not in n} - {
        "edo",
        "senn",
    }  # are of one axis: tests/strategies
    assert plain == {*QUICK, *TRIALS}
