"""Self-expanding search grows the smallest networks where their answers say so."""

import json

import pytest

from nas.catalog import load_axis, load_space
from nas.core.axis import join
from nas.core.errors import NasError
from nas.core.expansion import SIZES
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.core.trial import Event, History, Proposal
from nas.strategies.choose import create

TASK = TaskSpec("digits", (3, 32, 32), 10)
SPACE = load_space("resnet+growth").at(TASK)


def proposed(number: int, proposal: Proposal) -> Event:
    payload = {"architecture": proposal.architecture.to_json(), "origin": "strategy",
               "notes": dict(proposal.notes)}  # fmt: skip
    return Event("proposed", number, payload)


def answered(number: int, **ratios: float) -> Event:
    suggests = {name.replace("_", "."): ratio for name, ratio in ratios.items()}
    reports = [{"transform": "fold"}, {"transform": "growth", "suggests": suggests}]
    payload = {"job": "train", "repeat": 0, "trained": {"reports": reports}}
    return Event("reported", number, payload)


def smallest(proposal: Proposal) -> bool:
    choices = proposal.architecture.choices
    sizes = [d for d in SPACE.listed if f".{d.name}".endswith(SIZES) and d.name in choices]
    return all(choices[d.name] == min(d.values) for d in sizes)


def test_it_begins_with_the_smallest_and_follows_the_largest_ratio() -> None:
    strategy, history = create("senn", SPACE, [], seed=1), History()
    [first, other] = strategy.propose(history, 2)
    assert smallest(first) and smallest(other) and first.architecture != other.architecture
    assert first.architecture.choices["growth.ask"] is True
    history.append(proposed(0, first))
    history.append(proposed(1, other))
    history.append(answered(0, stages_0_depth=1.2, stages_1_width=3.0, stages_1_depth=0.9))
    [wider] = strategy.propose(history, 1)
    assert dict(wider.notes) == {"senn": "expanded", "of": 0, "by": "stages.1.width", "ratio": 3.0}
    changed = {k for k, v in wider.architecture.choices.items()
               if first.architecture.choices.get(k) != v}  # fmt: skip
    assert changed == {"stages.1.width"}
    history.append(proposed(2, wider))
    history.append(answered(2, stages_0_depth=1.0, stages_1_depth=0.7))
    [begun] = strategy.propose(history, 1)
    assert begun.notes == {"senn": "begun"} and smallest(begun)


def test_a_fresh_instance_goes_on_alike() -> None:
    strategy, history = create("senn", SPACE, [], seed=4), History()
    for number in range(14):
        [proposal] = strategy.propose(history, 1)
        assert SPACE.check(proposal.architecture.choices) == []
        assert json.loads(json.dumps(dict(proposal.notes))) == dict(proposal.notes)
        stored = History([Event.from_json(json.loads(json.dumps(e.to_json())))
                          for e in history.events])  # fmt: skip
        assert create("senn", SPACE, [], seed=4).propose(stored, 1) == [proposal]
        history.append(proposed(number, proposal))
        if number % 3:
            history.append(answered(number, stages_0_depth=2.0 + number / 7, stages_0_width=2.2))
    made = [e.payload["architecture"]["choices"] for e in history.proposals.values()]
    assert len({json.dumps(c, sort_keys=True) for c in made}) == 14
    batch = create("senn", SPACE, [], seed=4).propose(history, 3)
    for expected in batch:
        [one] = strategy.propose(history, 1)
        assert one == expected
        history.append(proposed(len(history.proposals), one))


def test_a_failed_network_and_one_of_the_users_are_not_followed() -> None:
    strategy, history = create("senn", SPACE, [], seed=1), History()
    payload = {"architecture": {"space": "own", "choices": {"depth": 4}}, "origin": "user",
               "notes": {}}  # fmt: skip
    history.append(Event("proposed", 0, payload))
    history.append(answered(0, stages_0_depth=9.0))
    history.append(Event("told", 0, {"state": "failed", "values": {}, "violations": {}}))
    [begun] = strategy.propose(history, 1)
    assert begun.notes == {"senn": "begun"}


def test_spaces_that_cannot_grow_are_refused() -> None:
    plain = SearchSpace("own", [], lambda choices, task: None)
    with pytest.raises(NasError) as caught:
        create("senn", plain, [])
    assert "--space own+growth" in caught.value.hint
    with pytest.raises(NasError, match="no depth and no width"):
        create("senn", join(plain, [load_axis("growth")]).at(TASK), [])
