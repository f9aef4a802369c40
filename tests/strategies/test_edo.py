"""EDO asks one network, follows its answer, and needs the axis that it chooses for."""

import pytest

from nas.catalog import load_axis, load_space
from nas.core.axis import join
from nas.core.errors import NasError
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.core.trial import Event, History, Proposal
from nas.strategies.choose import create

TASK = TaskSpec("digits", (3, 16, 16), 10)
ALONE = join(SearchSpace("own", [], lambda choices, task: None), [load_axis("dilation")]).at(TASK)
ANSWER = {
    "kernel": "own", "section.0.dilated": True, "section.0.filters.0": "2x2",
    "section.0.filters.1": "1x2", "section.0.filters.2": "1x1", "section.0.filters.3": "1x1",
    "section.1.dilated": False, "section.2.dilated": False, "section.3.dilated": False,
}  # fmt: skip


def proposed(number: int, proposal: Proposal) -> Event:
    payload = {"architecture": proposal.architecture.to_json(), "origin": "strategy",
               "notes": proposal.notes}  # fmt: skip
    return Event("proposed", number, payload)


def answered(number: int) -> Event:
    reports = [{"transform": "fold"}, {"transform": "dilation", "suggests": ANSWER}]
    payload = {"job": "train", "repeat": 0, "trained": {"reports": reports}}
    return Event("reported", number, payload)


def test_the_answer_of_the_grown_network_is_trained_next() -> None:
    strategy, history = create("edo", ALONE, [], seed=1), History()
    [first, meanwhile] = strategy.propose(history, 2)
    assert first.architecture.choices["dilation.kernel"] == "full"
    assert meanwhile.architecture.choices["dilation.kernel"] == "own"
    history.append(proposed(0, first))
    history.append(proposed(1, meanwhile))
    history.append(answered(0))
    [chosen, step] = strategy.propose(history, 2)
    assert chosen.architecture == ALONE.architecture(
        {f"dilation.{k}": v for k, v in ANSWER.items()}
    )
    assert chosen.notes == {"edo": "chosen", "of": 0}
    assert step.architecture != chosen.architecture
    assert ALONE.check(step.architecture.choices) == []
    history.append(proposed(2, chosen))
    assert create("edo", ALONE, [], seed=1).propose(history, 1) == [step]


def test_beside_a_space_one_network_after_another_is_asked() -> None:
    space = load_space("largekernel+dilation").at(TASK)
    strategy, history = create("edo", space, [], seed=1), History()
    asked = []
    for number in range(12):
        [proposal] = strategy.propose(history, 1)
        history.append(proposed(number, proposal))
        assert space.check(proposal.architecture.choices) == []
        if proposal.notes["edo"] == "grown":
            asked.append(proposal.architecture)
            history.append(answered(number))
        if proposal.notes["edo"] == "chosen":
            of = history.proposals[proposal.notes["of"]].payload["architecture"]["choices"]
            rest = {k: v for k, v in of.items() if not k.startswith("dilation.")}
            assert rest.items() <= proposal.architecture.choices.items()
    assert len(asked) == len(set(asked)) == 4


def test_a_space_without_dilations_is_refused() -> None:
    space = SearchSpace("own", [], lambda choices, task: None)
    with pytest.raises(NasError) as caught:
        create("edo", space, [])
    assert "--space own+dilation" in caught.value.hint


def test_the_grown_network_is_asked_without_what_its_kernel_excludes() -> None:
    space = load_space("largekernel+adapter+sparsity+bitwidth+dilation").at(TASK)
    for seed in range(6):
        [asked] = create("edo", space, [], seed=seed).propose(History(), 1)
        choices = asked.architecture.choices
        assert space.check(choices) == []
        assert choices["dilation.kernel"] == "full"
        assert (choices["sparsity.pattern"], choices["bitwidth.weights"]) == ("dense", "fp32")
        assert choices["adapter.method"] == "none"
