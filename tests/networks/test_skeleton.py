"""The skeleton: shapes of stems, drop rates, names it does not know, shared tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas import NasError
from nas.networks.parts.residual import DropPath
from nas.networks.plan import Network, Stage
from nas.networks.skeleton import LargeKernelNet, make_stem

STAGES = tuple(
    Stage(depth=2, width=w, mixer="peripheral", kernel=7, core=1, positional=True)
    for w in (8, 16, 24, 32)
)
PLAN = Network(3, 5, STAGES, drop_path=0.7)


@pytest.mark.parametrize("stem", ["patch", "overlapping", "deep"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_stem_shrinks_by_its_stride(stem: str, stride: int) -> None:
    layer = make_stem(replace(PLAN, stem=stem, stride=stride))
    assert layer(torch.randn(2, 3, 32, 24)).shape == (2, 8, 32 // stride, 24 // stride)


def test_later_blocks_drop_more() -> None:
    rates = [m.rate for m in LargeKernelNet(PLAN).modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


def test_dropping_a_path_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25)
    y = layer(torch.ones(20000, 1, 1, 1))
    assert sorted(set(y.flatten().tolist())) == pytest.approx([0, 1 / 0.75])
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(layer.eval()(torch.ones(3)), torch.ones(3))


def test_a_stage_shares_one_positional_table() -> None:
    module = LargeKernelNet(PLAN)
    tables = [n for n, _ in module.named_parameters() if n.endswith("offset")]
    assert tables == [f"stages.{i}.table.offset" for i in range(4)]
    module(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_fresh_weights_are_small_and_biases_zero() -> None:
    torch.manual_seed(0)
    module = LargeKernelNet(PLAN)
    weight = module.stages[3].blocks[0].expand.weight
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert bool((module.stages[3].blocks[0].expand.bias == 0).all())


@pytest.mark.parametrize("change", ["stem", "block", "downsample", "head"])
def test_unknown_parts(change: str) -> None:
    with pytest.raises(NasError, match=f"no {change} named 'x'"):
        LargeKernelNet(replace(PLAN, **{change: "x"}))
