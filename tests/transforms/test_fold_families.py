"""Folding is exact in float64 for residual, mobile and one-shot-aggregation networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas.networks.mbconv import MobileNet, MobileNetwork, MobileStage
from nas.networks.osa import AggregationNet, AggregationNetwork, AggregationStage
from nas.networks.parts.laurel import LearnedSkip
from nas.networks.resnet import ResidualNet, ResidualNetwork, ResidualStage
from nas.transforms.fold import fold

Randomised = Callable[[nn.Module], nn.Module]
SHAPE = (3, 13, 16)  # odd maps meet the edges of every pool
STAGE = ResidualStage(2, 16, 1, inner=0.5, groups=2)
STAGES = (STAGE, replace(STAGE, width=24, stride=2), replace(STAGE, width=32, stride=2))
RESIDUAL = ResidualNetwork(3, 5, STAGES, "deep", 8, 1, drop_path=0.2)


def exact(module: nn.Module, randomised: Randomised) -> nn.Module:
    """Folds a network with random statistics; fails unless its outputs are the same."""
    randomised(module)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, LearnedSkip):
                for parameter in layer.parameters(recurse=False):
                    parameter.normal_()
    folded, report = fold(module, SHAPE)
    x = torch.randn(2, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        wanted, got = module(x), folded(x)
    spread: Tensor = (wanted[0] - wanted[1]).abs().max()
    assert spread > 1e-6 * wanted.abs().max(), "the output does not depend on the input"
    assert float((wanted - got).abs().max() / spread) < 1e-9
    left = [p for p, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(left) <= {path for path, _ in report.skipped}
    return folded


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize("conv", ["plain", "scales", "split", "select"])
@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_residual_blocks(conv: str, order: str, block: str, randomised: Randomised) -> None:
    if block == "basic" and conv in ("scales", "split"):
        conv = "plain"
    stages = tuple(
        replace(s, conv=conv, scale=2, groups=1 if block == "basic" else 2) for s in STAGES
    )
    plan = replace(RESIDUAL, stages=stages, order=order, block=block)
    folded = exact(ResidualNet(plan), randomised)
    # of networks with the activation first, what follows a sum stays, and nothing else
    blocks = sum(stage.depth for stage in stages)
    assert norms(folded) == (blocks + 1 if order == "pre" else 0)


@pytest.mark.parametrize("gate", ["se", "eca", "ese", "scse", "gc", "grn"])
@pytest.mark.parametrize("at", ["last", "inner"])
@pytest.mark.parametrize("skip", ["plain", "rw+lr+pa"])
def test_gates_and_learned_skips(gate: str, at: str, skip: str, randomised: Randomised) -> None:
    stages = tuple(replace(stage, gate=gate, ratio=0.25) for stage in STAGES)
    plan = replace(RESIDUAL, stages=stages, gate_at=at, skip=skip, rank=2, gate_of="input")
    folded = exact(ResidualNet(plan), randomised)
    assert norms(folded) == 0
    joins = [m for m in folded.modules() if isinstance(m, LearnedSkip)]
    gated = at == "last" and gate != "grn"  # then the branch's factor cannot pass
    assert all((join.logits is None) == (skip == "plain" or not gated) for join in joins)


@pytest.mark.parametrize("shrink", ["spatial", "reduce", "before", "after"])
@pytest.mark.parametrize("shortcut", ["conv", "pool", "conv3"])
@pytest.mark.parametrize("stem", ["7x7", "3x3", "tiered"])
def test_stems_shortcuts_and_strides(
    shrink: str, shortcut: str, stem: str, randomised: Randomised
) -> None:
    stages = tuple(replace(stage, gate="grn") for stage in STAGES)
    pool = {"7x7": "max", "3x3": "conv", "tiered": "last"}[stem]
    plan = replace(RESIDUAL, stages=stages, stem=stem, stem_stride=4, pool=pool, shrink=shrink)
    folded = exact(
        ResidualNet(replace(plan, shortcut=shortcut, head_width=40, dropout=0.3)), randomised
    )
    assert norms(folded) == 0


@pytest.mark.parametrize("gate", ["none", "se"])
def test_dual_paths(gate: str, randomised: Randomised) -> None:
    stages = tuple(replace(stage, increment=4, gate=gate) for stage in STAGES)
    folded = exact(ResidualNet(replace(RESIDUAL, block="dual", stages=stages)), randomised)
    # what reads both streams stays: one of each block, one of each projection, the last
    assert norms(folded) == 6 + 3 + 1


def test_group_norms_stay(randomised: Randomised) -> None:
    folded = exact(ResidualNet(replace(RESIDUAL, norm="group")), randomised)
    assert any(isinstance(layer, nn.GroupNorm) for layer in folded.modules())


@pytest.mark.parametrize("gate", ["none", "se", "eca"])
@pytest.mark.parametrize("ratio_of", ["input", "hidden"])
def test_mobile_bottlenecks(gate: str, ratio_of: str, randomised: Randomised) -> None:
    stages = tuple(
        MobileStage(2, width, stride, kernel, expansion, "hardswish", gate, skip, 5)
        for width, stride, kernel, expansion, skip in (
            (8, 1, 3, 1, 0.0), (16, 2, 5, 3, 0.0), (24, 2, 7, 2.5, 2.3),
        )
    )  # fmt: skip
    plan = MobileNetwork(3, 5, stages, 8, 1, "silu", ratio_of=ratio_of, head_width=32,
                         head_hidden=20, dropout=0.1, drop_path=0.2)  # fmt: skip
    assert norms(exact(MobileNet(plan), randomised)) == 0


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("gated", ["last", "every"])
def test_one_shot_aggregation(depthwise: bool, gated: str, randomised: Randomised) -> None:
    stages = tuple(AggregationStage(2, width, 8, 3, "ese") for width in (16, 24))
    plan = AggregationNetwork(3, 5, stages, 8, 16, 2, "mish", depthwise, True, gated, 0.1)
    assert norms(exact(AggregationNet(plan), randomised)) == 0
