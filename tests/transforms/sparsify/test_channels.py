from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transforms.sparsify.conftest import SHAPE, Residual, residual

from nas.deploy.export import export
from nas.hardware.counting import count
from nas.networks.mixers.depthwise import Depthwise
from nas.transforms.dilate import dilating
from nas.transforms.sparsify import Plan, channels, sparsifying
from nas.transforms.stages import Given, Pipeline

PLANS = [
    Plan("channels", 0.5, "uniform", "start"),
    Plan("channels", 0.5, "precrop", "start"),
    Plan("channels", 0.5, "global", "oneshot"),
    Plan("channels", 0.5, "rd", "gradual"),
    Plan("channels", 0.5, "uniform", "acdc"),
]


def ids(plan: Plan) -> str:
    return f"{plan.allocation}-{plan.timing}"


@pytest.mark.parametrize("plan", PLANS, ids=ids)
def test_what_ships_is_the_smaller_network_and_answers_as_the_trained_one(
    trained, given: Given, plan: Plan
) -> None:
    module, reports = trained(plan)
    assert reports[-1].score > 70
    pipeline = Pipeline([sparsifying(plan)], given)
    x = torch.randn(16, *SHAPE)
    deployed, _ = pipeline.deploy(module, SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), module.eval()(x), rtol=1e-4, atol=1e-5)
    assert deployed.inner.weight.shape == (16, 8, 3, 3) or plan.allocation != "uniform"
    assert count(deployed, SHAPE).params < 0.45 * count(residual(), SHAPE).params
    untrained, reports = pipeline.prepare(residual())
    assert "head" in {path for r in reports for path, _ in r.skipped}
    first, _ = pipeline.deploy(untrained, SHAPE)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (first, deployed)]
    assert shapes[0] == shapes[1] and not any("channel_" in name for name in shapes[0])


@pytest.mark.slow
def test_the_file_is_smaller_and_its_graph_the_untrained_one(
    trained, given: Given, tmp_path: Path
) -> None:
    plan = PLANS[2]
    pipeline = Pipeline([sparsifying(plan)], given)
    found = []
    for module in (pipeline.prepare(residual())[0], trained(plan)[0]):
        deployed, _ = pipeline.deploy(module, SHAPE)
        found.append(export(deployed, SHAPE, tmp_path / "n.onnx"))
    assert found[0].build == found[1].build
    dense = export(residual().eval(), SHAPE, tmp_path / "d.onnx")
    assert found[1].bytes < 0.6 * dense.bytes and found[1].build != dense.build


@pytest.mark.parametrize("plan", PLANS[2:], ids=ids)
def test_a_resumed_training_is_bit_for_bit_the_one_that_never_stopped(trained, plan: Plan) -> None:
    whole, _ = trained(plan)
    _, before = trained(plan, to_rung=1)
    torch.manual_seed(99)
    resumed, _ = trained(plan, seed=0, start=before[-1].checkpoint, from_rung=1)
    pairs = zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_repeats_under_other_seeds_have_the_shapes_of_the_study(given: Given) -> None:
    """Amounts that look at weights look at those of the study's own seed."""
    study = replace(given, reference=lambda: residual(seed=0))
    plan = Plan("channels", 0.5, "global")
    skewed = residual(seed=1)
    with torch.no_grad():
        skewed.inner.weight[8:] *= 1e-3
        skewed.inner_norm.weight[8:] *= 1e-3
        skewed.outer.weight[:, 8:] *= 1e-3

    def shapes(module: Residual, given: Given) -> list[torch.Size]:
        pruned, _ = sparsifying(plan).prepare(deepcopy(module), given)
        return [p.shape for p in pruned.parameters()]

    assert shapes(residual(seed=0), study) == shapes(skewed, study)
    assert shapes(skewed, given) != shapes(skewed, study)


def test_the_channels_that_go_are_the_least_important(given: Given) -> None:
    module = residual()
    with torch.no_grad():
        for tensor in (module.inner.weight, module.inner_norm.weight):
            tensor[::2] *= 0.01
        module.outer.weight[:, ::2] *= 0.01
    expected = module.inner_norm.weight[1::2].clone()
    pruned, _ = sparsifying(Plan("channels", 0.5)).prepare(module, given)
    assert torch.equal(pruned.inner_norm.weight, expected)


def test_groups_that_keep_their_channels_are_not_told_as_changed(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_of_one(module, groups, plan, given) -> list[int]:
        return [g.count if g.root == "inner" else g.count // 2 for g in groups]

    monkeypatch.setattr(channels, "widths", half_of_one)
    pipeline = Pipeline([sparsifying(PLANS[2])], given)
    module, _ = pipeline.prepare(residual())
    _, reports = pipeline.deploy(module, SHAPE)
    [removed] = [r for r in reports if r.transform == "sparsity"]
    assert len(removed.touched) == 1 and "16 -> 8 channels" in removed.touched[0]
    assert removed.skipped == (("inner", "global keeps its 32 channels"),)


def test_masked_channels_stay_masked_through_a_training(trained) -> None:
    sparse = []

    def seen(module, over):
        alive = module.inner.channel_mask
        sparse.append((round(100 * over), int(alive.sum())))
        for tensor in (module.inner.weight, module.inner_norm.weight, module.inner_norm.bias):
            assert not tensor[~alive].any()
        assert not module.outer.weight[:, ~alive].any()

    trained(Plan("channels", 0.5, "uniform", "acdc"), seen)
    for percent, live in sparse:
        closed = percent >= 85 or (10 <= percent < 75 and (percent - 10) // 5 % 2 == 0)
        assert live == (16 if closed else 32), percent


class Separable(nn.Module):
    """A dense convolution, depthwise ones of torch's and ours, all behind one width."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.theirs, self.ours = nn.Conv2d(32, 32, 3, padding=1, groups=32), Depthwise(32, 5)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.ours(torch.relu(self.theirs(x)))).mean((2, 3)))


PATTERNS = [(1, 1), (2, 2), (1, 2), (2, 1)]


@pytest.mark.parametrize("plan", PLANS[2:], ids=ids)
@pytest.mark.parametrize("kind", [Residual, Separable])
def test_channels_of_dilated_filters_go_in_training_too(
    given: Given, kind: type[nn.Module], plan: Plan
) -> None:
    """The same graph whichever channels go: each dilation gives its share of them."""
    pipeline = Pipeline([sparsifying(plan), dilating([PATTERNS] * 4)], given)
    shipped = []
    for seed in (0, 1, 2):
        torch.manual_seed(0)
        module, _ = pipeline.prepare(kind())
        if seed:
            skewed(module, seed)
            for addition in pipeline.during(module):
                addition.after(1.0)
        deployed, reports = pipeline.deploy(module, SHAPE)
        assert any("channels" in line for line in reports[0].touched)
        if seed:
            x = torch.randn(4, *SHAPE)
            torch.testing.assert_close(deployed(x), module.eval()(x), rtol=1e-4, atol=1e-5)
        convs = [m for m in deployed.modules() if isinstance(m, nn.Conv2d)]
        shipped.append([(c.weight.shape, c.dilation) for c in convs])
    assert shipped[0] == shipped[1] == shipped[2]
    dilated = [n for (n, *_), dilation in shipped[0] if dilation != (1, 1)]
    assert (len(dilated) >= 4 and {4} >= set(dilated)) or plan.allocation != "uniform"


def skewed(module: nn.Module, seed: int) -> None:
    """Makes some channels matter more than others, most of them neighbours."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 4:
                order = torch.rand(len(parameter), generator=numbers) + torch.arange(len(parameter))
                parameter.mul_(order.view(-1, 1, 1, 1) / len(parameter))
