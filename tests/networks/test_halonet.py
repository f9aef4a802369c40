"""Local attention in the place of a bottleneck's 3x3 convolution."""

from __future__ import annotations

import pytest
import torch

from nas.core.errors import NasError
from nas.networks.halonet import HaloLayer, attends
from nas.networks.mixers.halo import HaloAttention
from nas.networks.resnet import ResidualNet, ResidualNetwork, ResidualStage


@pytest.mark.parametrize(
    ("where", "found"),
    [("none", []), ("last", [4]), ("others", [1, 3]), ("all", [0, 1, 2, 3, 4])],
)
def test_which_blocks_attend(where: str, found: list[int]) -> None:
    assert [i for i in range(5) if attends(where, i, 5)] == found


def test_a_place_that_is_none_is_named() -> None:
    with pytest.raises(NasError, match="place of attention"):
        attends("lasts", 0, 2)


@pytest.mark.parametrize("where", ["last", "all"])
def test_a_network_attends_where_its_stage_says_and_nowhere_has_it_a_gate_too(where: str) -> None:
    plain = ResidualStage(1, 32, 1, gate="eca")
    stage = ResidualStage(2, 64, 2, gate="eca", attends=where, heads=4, window=4, halo=1)
    net = ResidualNet(ResidualNetwork(3, 10, (plain, stage), "3x3", 16, 1)).eval()
    blocks = [block for layers in net.stages for block in layers.blocks]
    halo = [any(isinstance(m, HaloAttention) for m in block.modules()) for block in blocks]
    assert halo == [False, where == "all", True]
    gated = [type(block.gate).__name__ != "Identity" for block in blocks]
    assert gated == [not attention for attention in halo]
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_spatial_channels_are_divided_among_heads() -> None:
    assert ResidualStage(1, 72, 1).spatial == 18
    assert ResidualStage(1, 72, 1, attends="all", heads=8).spatial == 16
    assert ResidualStage(1, 72, 1, attends="all", heads=8, groups=3).spatial == 24


def test_queries_have_the_channels_asked_for_or_those_of_the_values() -> None:
    for head, channels in ((0, 2), (16, 16)):
        layer = HaloLayer(24, 16, 8, head, 8, 3, 2, "relu", "batch").attend
        assert (layer.q.out_channels, layer.q.stride) == (8 * channels, (2, 2))
        assert layer.kv.out_channels == 8 * channels + 16
