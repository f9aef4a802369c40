"""The decisions name plans, and every value of every decision is one that can be put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from adapter_networks import NETWORKS, SHAPE
from torch import nn

from nas.catalog import load_axis
from nas.core.axis import join
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.transforms.adapt.adapted import Adapted
from nas.transforms.adapt.insertion import METHODS
from nas.transforms.stages import Given, Pipeline

TASK = TaskSpec("t", SHAPE, 5)
SEVERAL = replace(TASK, parts=(3, 2))


def joint(task: TaskSpec = TASK) -> SearchSpace:
    base = SearchSpace("plain", [], lambda choices, task: NETWORKS["fused"]())
    return join(base, [load_axis("adapter")]).at(task)


def prepared(space: SearchSpace, choices: object, task: TaskSpec = TASK):
    given = Given(task, lambda n: torch.zeros(n, *SHAPE), pretrained=True)
    pipeline = Pipeline(space.transforms(choices, task), given)
    torch.manual_seed(0)
    return pipeline.prepare(space.build(choices, task))


def test_every_method_is_offered_and_polyhistor_where_there_are_several_tasks() -> None:
    methods = {d.name: d for d in joint().listed}["adapter.method"].values
    several = {d.name: d for d in joint(SEVERAL).listed}["adapter.method"].values
    assert set(several) == {"none", *METHODS}
    assert set(several) - set(methods) == {"polyhistor"}


def test_with_no_method_the_whole_network_is_trained() -> None:
    space = joint()
    untouched = space.repair({})
    assert dict(untouched.choices) == {"adapter.method": "none"}
    module, reports = prepared(space, untouched.choices)
    assert not isinstance(module, Adapted) and reports == []
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_every_decision_of_a_method_changes_the_network(method: str) -> None:
    """Each value of each decision, the others at their first: what is put in differs."""
    space = joint(SEVERAL)
    base = space.repair({"adapter.method": method}).choices
    silent = ("rate", "scale", "rslora", "low_rank", "leave", "dropped", "masked", "heads", "depth")
    for decision in space.active(base)[1:]:
        name = decision.name.removeprefix("adapter.")
        if name in silent or name.startswith("section."):
            continue
        seen = []
        for value in decision.values:
            choices = space.repair({**base, decision.name: value}).choices
            module, [report] = prepared(space, choices, SEVERAL)
            trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
            seen.append((report.touched, trained))
        assert len(set(seen)) > 1, name


def test_decisions_arrive_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.transforms.adapt import adapting as stages

    found = []
    monkeypatch.setattr(stages, "adapting", found.append)
    axis = load_axis("adapter")
    axis.transform(
        {
            "method": "lora", "section.0": "frozen", "section.1": "adapted", "mixing": "queries",
            "channels": "none", "rank": 8, "scale": 2.0, "rslora": True, "rate": 3, "heads": 3,
            "leave": "half", "dropped": 0.1, "masked": 0.3,
        },
        TASK,
    )  # fmt: skip
    [plan] = found
    assert plan.sections == (False, True, True, True)
    assert (plan.mixing, plan.channels, plan.rank, plan.alpha, plan.stable) == (
        "queries", False, 8, 16.0, True,
    )  # fmt: skip
    assert (plan.rate, plan.heads, plan.leave, plan.dropped, plan.masked) == (3, 3, 2, 0.1, 0.3)


def test_what_is_proposed_can_be_put_in() -> None:
    space = joint(SEVERAL)
    rng = np.random.default_rng(3)
    for _ in range(12):
        point = space.sample(rng)
        assert space.check(point.choices) == []
        module, _ = prepared(space, point.choices, SEVERAL)
        assert module(torch.zeros(2, *SHAPE)).shape == (2, 5)


def trained(space: SearchSpace, choices: object) -> dict[str, torch.Tensor]:
    """The parameters of the network after two steps."""
    given = Given(TASK, lambda n: torch.zeros(n, *SHAPE), pretrained=True)
    module, _ = prepared(space, choices)
    pipeline = Pipeline(space.transforms(choices, TASK), given)
    [addition] = pipeline.during(module)
    loss = addition.criterion(lambda net, x, y: nn.functional.cross_entropy(net(x), y))
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1)
    torch.manual_seed(1)
    images, classes = torch.randn(4, *SHAPE), torch.arange(4)
    for _ in range(2):  # what is above a matrix that begins at zero has no gradient in the first
        optimizer.zero_grad()
        loss(module.train(), images, classes).backward()
        optimizer.step()
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("decision", "value"), [("dropped", 0.3), ("masked", 0.3)])
def test_sparsity_in_training_is_offered_where_it_changes_the_training(
    method: str, decision: str, value: float
) -> None:
    space = joint()
    plain = space.repair({"adapter.method": method, "adapter.heads": 1}).choices
    offered = f"adapter.{decision}" in plain
    assert offered == (method in {"dropped": ("lora", "bottleneck"),
                                  "masked": ("lora", "ssf", "difffit", "linear", "bottleneck",
                                             "snnk", "sara")}[decision])  # fmt: skip
    if offered:
        sparse = space.repair({**plain, f"adapter.{decision}": value}).choices
        one, two = trained(space, plain), trained(space, sparse)
        assert any(not torch.equal(one[name], two[name]) for name in one)
