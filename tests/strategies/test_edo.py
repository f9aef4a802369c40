"""EDO asks one network, follows its answer, and needs the axis that it chooses for."""

from pathlib import Path
from typing import Any

import networks_of_users as theirs
import pytest
import torch
from torch import Tensor, nn

from nas.catalog import load_axis, load_space
from nas.core.architecture import Architecture
from nas.core.axis import join
from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.space import SearchSpace
from nas.core.task import Task, TaskSpec
from nas.core.trial import Event, History, Proposal
from nas.networks.mixers.patterned import Patterned
from nas.strategies.choose import create
from nas.training.recipe import Recipe
from nas.training.train import train
from nas.transforms.report import Report
from nas.transforms.stages import Given, Pipeline

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


def test_a_network_with_nothing_to_dilate_is_passed_over() -> None:
    """It fails when it is built; then another is asked at once, and the steps stay as many."""
    space = load_space("largekernel+dilation").at(TASK)
    strategy, history, notes = create("edo", space, [], seed=1), History(), []
    for number in range(8):
        [proposal] = strategy.propose(history, 1)
        history.append(proposed(number, proposal))
        notes.append(proposal.notes["edo"])
        if number < 2:
            history.append(Event("told", number, {"state": "failed", "error": "nothing"}))
        elif proposal.notes["edo"] == "grown":
            history.append(answered(number))
    assert notes == ["grown", "grown", "grown", "chosen", "step", "grown", "chosen", "step"]
    asked = {e.payload["architecture"]["choices"]["stages.0.width"] for e in
             (history.proposals[n] for n in range(3))}  # fmt: skip
    assert len(asked) > 1
    alone, history = create("edo", ALONE, [], seed=1), History()
    history.append(proposed(0, alone.propose(history, 1)[0]))
    history.append(Event("told", 0, {"state": "failed", "error": "nothing"}))
    [proposal] = alone.propose(history, 1)
    assert proposal.notes == {"edo": "step"}


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


def bright() -> Task:
    """Images of which one half is brighter, left or right, with noise drawn from the seed."""

    def batches(split: str, seed: int) -> Any:
        numbers = torch.Generator().manual_seed(seed if split == "train" else 0)
        for _ in range(8):
            target = torch.arange(16) % 2
            noise = torch.randn(16, *TASK.input, generator=numbers)
            noise[..., :8] += target.view(-1, 1, 1, 1)
            yield noise, target

    return Task(TASK.input, 2, batches, nn.functional.cross_entropy,
                lambda o, t: (o.argmax(1) == t).float(), digest="bright")  # fmt: skip


def largekernel() -> nn.Module:
    """The skeleton of large kernels with plain depthwise mixers, as small as it gets."""
    space = load_space("largekernel").at(TASK)
    choices: dict[str, Any] = {"stem.stride": 1, "stem.kind": "patch", "block": "convnext"}
    for i in range(4):
        at = f"stages.{i}."
        choices |= {at + "mixer": "depthwise", at + "kernel": 5, at + "depth": 1,
                    at + "width": 16 * 2**i, at + "fraction": 1.0}  # fmt: skip
    found: nn.Module = space.build(space.repair(choices).choices, TASK)
    return found


def trained(
    space: SearchSpace, asked: Architecture, folder: Path
) -> tuple[nn.Module, nn.Module, list[Report], float]:
    """A network in its training and its deployed form, all that was said of it, and its score."""

    def examples(count: int) -> Tensor:
        return torch.randn(count, *TASK.input, generator=torch.Generator().manual_seed(0))

    torch.manual_seed(0)
    pipeline = Pipeline(space.transforms(asked.choices, TASK), Given(bright(), examples))
    module, said = pipeline.prepare(space.build(asked.choices, TASK))
    scores: list[float] = []
    train(module, bright(), Recipe(batch=16, rate=3e-3), Fidelity(2, 1, 2), 1, folder=folder,
          on_rung=lambda rung: scores.append(rung.score) is None,
          additions=pipeline.during(module))  # fmt: skip
    deployed, done = pipeline.deploy(module, TASK.input)
    return module, deployed, [*said, *done], scores[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [lambda: theirs.ResNet18(2), largekernel], ids=["resnet", "largekernel"]
)
def test_what_a_trained_network_asks_for_is_built_and_trained(network: Any, tmp_path: Path) -> None:
    own = SearchSpace("own", [], lambda choices, task: network())
    space = join(own, [load_axis("dilation")]).at(TASK)
    strategy, history = create("edo", space, [], seed=1), History()
    [asked] = strategy.propose(history, 1)
    history.append(proposed(0, asked))
    module, _, reports, score = trained(space, asked.architecture, tmp_path)
    grown = next(r for r in reports if r.transform == "dilation" and not r.suggests)
    assert grown.touched and all(" kernel grown to " in line for line in grown.touched)
    assert score > 70
    told = {"reports": [r.to_json() for r in reports]}
    history.append(Event("reported", 0, {"job": "train", "repeat": 0, "trained": told}))
    [chosen] = strategy.propose(history, 1)
    assert chosen.notes == {"edo": "chosen", "of": 0}
    wanted = chosen.architecture.choices
    assert any(wanted[f"dilation.section.{i}.dilated"] for i in range(4))
    module, deployed, reports, score = trained(space, chosen.architecture, tmp_path)
    said = [line for line in reports[0].touched if ": dilated: " in line]
    built = {f"{h}x{w}" for m in module.modules() if isinstance(m, Patterned)
             for (h, w), _ in m.patterns}  # fmt: skip
    named = {str(v) for k, v in wanted.items() if ".filters." in k}
    assert said and built <= named | {"1x1"} and built - {"1x1"}
    assert score > 70
    x = torch.randn(4, *TASK.input)
    torch.testing.assert_close(deployed(x), module.eval()(x), rtol=1e-3, atol=1e-4)
