from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from adapter_networks import OUTPUTS, SHAPE, adapt, far, inputs, pretrained
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.core.task import Task
from nas.deploy.export import export
from nas.hardware.counting import count
from nas.transforms.adapt.adapting import adapting, added, judged
from nas.transforms.adapt.dynamic import Dynamic, EarlyHead, balance, sweep
from nas.transforms.adapt.lora import LowRank
from nas.transforms.adapt.plan import Plan


def test_early_heads_weigh_less_and_late_ones_more_as_training_goes_on() -> None:
    for heads in (2, 3, 4):
        courses = [[balance(t / 10, heads)[k] for t in range(11)] for k in range(heads)]
        assert courses[0] == sorted(courses[0], reverse=True) and courses[0][0] > courses[0][-1]
        assert courses[-1] == sorted(courses[-1]) and courses[-1][0] < courses[-1][-1]
        assert all(math.isclose(sum(balance(t / 10, heads)), 1) for t in range(11))


def test_deeper_heads_are_lighter() -> None:
    module = adapt(pretrained("fused"), Plan("lora", heads=3)).adapted
    sizes = [sum(p.numel() for p in head.layers.parameters()) for head in module.heads]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


@pytest.mark.parametrize("heads", [1, 3])
def test_a_network_that_answers_for_every_place_has_no_early_heads(heads: int) -> None:
    maps = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, OUTPUTS, 1))
    with pytest.raises(NasError) as told:
        adapt(maps.double(), Plan("lora", heads=heads))
    problem, hint = str(told.value).splitlines()
    answers = f"early heads answer (B, {OUTPUTS}), this network (B, {OUTPUTS}, 16, 16)"
    assert problem == f"adapter.heads={heads}: {answers}" and "adapter.heads=0" in hint
    assert adapt(maps.double(), Plan("lora")).prepared.touched


@pytest.mark.parametrize("method", ["head", "lora", "ssf", "linear", "bottleneck", "snnk", "sara"])
@pytest.mark.parametrize("leave", [1, 2, 4])
def test_what_is_deployed_answers_as_its_exit_does(
    network: nn.Module, method: str, leave: int
) -> None:
    tried = adapt(network, Plan(method, heads=3, leave=leave))
    module = tried.adapted
    answers = module.answers(inputs())
    expected = answers[-1] if leave == 4 else answers[module.of_quarter[leave]]
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), expected) < 1e-9
    assert not any(torch.allclose(expected, a) for a in answers if a is not expected)


def test_what_lies_behind_the_exit_is_gone(tmp_path) -> None:
    costs, sizes = [], []
    for leave in (1, 2, 4):
        tried = adapt(pretrained("fused"), Plan("lora", heads=3, leave=leave))
        deployed = tried.deploy()[0].float()
        costs.append(count(deployed, SHAPE))
        sizes.append(export(deployed, SHAPE, tmp_path / f"{leave}.onnx").bytes)
    assert [c.macs for c in costs] == sorted(c.macs for c in costs)
    assert costs[0].macs < 0.5 * costs[2].macs and costs[0].params < 0.5 * costs[2].params
    assert sizes[0] < sizes[2]


def test_the_loss_is_every_heads(network: nn.Module) -> None:
    plan = Plan("lora", heads=3)
    module = adapt(network, plan).adapted
    addition = added(module, plan)
    target = torch.tensor([0, 1, 2, 3])

    def plain(module: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(x), target)

    loss = addition.criterion(plain)
    addition.after(0.25)
    module.train()
    found = loss(module, inputs(), target)
    weights = balance(0.25, len(module.heads) + 1)
    each = [nn.functional.cross_entropy(a, target) for a in module.eval().answers(inputs())]
    assert float(found) == pytest.approx(
        sum(w * float(e) for w, e in zip(weights, each, strict=True))
    )
    assert module.said == []  # nothing stays that would keep a copy from being made


def test_shallow_adapters_drop_more() -> None:
    module = adapt(pretrained("fused"), Plan("lora", heads=1, dropped=0.3)).adapted
    drops = {
        name.split(".parametrizations")[0]: part.drop
        for name, part in module.named_modules()
        if isinstance(part, LowRank)
    }
    assert drops["network.patches"] == pytest.approx(0.3)
    assert drops["network.blocks.2.mlp.2"] == 0.0
    seen = [drops[f"network.blocks.{i}.mlp.0"] for i in range(3)]
    assert seen == sorted(seen, reverse=True) and seen[0] > seen[-1]
    assert drops["network.blocks.0.attn.qkv"] > 0  # each slice's


def test_gradients_of_adapters_are_masked_and_those_of_heads_are_not() -> None:
    plan = Plan("lora", heads=1, masked=0.5)
    module = adapt(pretrained("fused"), plan).adapted
    module.train()
    loss = added(module, plan).criterion(lambda m, x, t: m(x).square().sum())

    def gradients() -> dict[str, Tensor]:
        with torch.enable_grad():
            loss(module, inputs(), None).backward()
        found = {n: p.grad.clone() for n, p in module.named_parameters() if p.requires_grad}
        module.zero_grad()
        return found

    one, two = gradients(), gradients()
    adapters = [n for n in one if "parametrizations" in n]
    zeros = torch.cat([one[n].flatten() == 0 for n in adapters]).double().mean()
    assert float(zeros) == pytest.approx(0.5, abs=0.05)
    assert any(not torch.equal(one[n], two[n]) for n in adapters)
    assert all(torch.equal(one[n], two[n]) for n in one if n not in adapters)


class Sure(Dynamic):
    """Answers that are written down."""

    def __init__(self, answers: list[Tensor]) -> None:
        nn.Module.__init__(self)
        self.given = answers

    def train(self, mode: bool = True) -> Sure:
        return self

    def answers(self, x: Tensor) -> list[Tensor]:
        return self.given


def test_each_example_leaves_at_the_first_exit_that_is_sure_of_it() -> None:
    def logits(*rows: tuple[int, float]) -> Tensor:
        """Rows of two classes: which is said, with which probability."""
        return torch.tensor(
            [[math.log(p), math.log(1 - p)][:: 1 if c == 0 else -1] for c, p in rows]
        )

    early = logits((0, 0.95), (1, 0.7), (1, 0.6))
    late = logits((1, 0.99), (0, 0.9), (0, 0.55))
    target = torch.tensor([0, 0, 0])
    task = Task(SHAPE, 2, lambda s, n: [], lambda o, t: o.sum(), lambda o, t: o.argmax(1) == t)
    found = sweep(Sure([early, late]), task, [(inputs(3), target)], (0.5, 0.65, 0.8, 0.99))
    assert [one.left for one in found] == [
        pytest.approx(share) for share in ((1, 0), (2 / 3, 1 / 3), (1 / 3, 2 / 3), (0, 1))
    ]
    assert [one.score for one in found] == [pytest.approx(100 * s / 3) for s in (1, 2, 3, 2)]
    assert found[0].n == 3


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_what_leaving_costs_is_expected_over_the_exits(method: str) -> None:
    """Of the network that leaves there always, and the heads asked before."""
    plan = Plan(method, heads=3)
    tried = adapt(pretrained("convolutions"), plan)
    module = tried.adapted
    assert isinstance(module, Dynamic)
    whole, _ = tried.deploy()
    heads = [sum(p.numel() for p in head.parameters() if p.ndim > 1) for head in module.heads]
    expected = []
    for exit, quarter in {e: q for q, e in module.of_quarter.items()}.items():
        pipeline = replace(tried.pipeline, transforms=[adapting(replace(plan, leave=quarter))])
        left, _ = pipeline.deploy(module, SHAPE)
        expected.append(count(left.float(), SHAPE).macs + sum(heads[:exit]))
    expected.append(count(whole.float(), SHAPE).macs + sum(heads))
    target = torch.tensor([0, 1, 2, 3])
    task = Task(SHAPE, OUTPUTS, lambda s, n: [], lambda o, t: o.sum(),
                lambda o, t: o.argmax(1) == t)  # fmt: skip
    given = replace(tried.pipeline.given, task=task)
    report = judged(module, plan, given, lambda: [(inputs(4), target)])
    for note, one in zip(report.notes, sweep(module, task, [(inputs(4), target)]), strict=True):
        spent = sum(s * c for s, c in zip(one.left, expected, strict=True)) / 1e6
        assert f"after {spent:.3g} of {expected[-1] / 1e6:.3g} million multiply-adds" in note


def test_a_head_sees_means_over_places() -> None:
    head = EarlyHead(6, OUTPUTS, axis=1, deep=True)
    x = torch.randn(2, 6, 6, 6)  # as high and wide as there are channels
    by_hand = head.layers(head.norm(x.mean((2, 3))))
    assert torch.allclose(head(x), by_hand)
    tokens = EarlyHead(6, OUTPUTS, axis=-1, deep=False)
    assert torch.allclose(tokens(x), tokens.layers(tokens.norm(x.mean((1, 2)))))
