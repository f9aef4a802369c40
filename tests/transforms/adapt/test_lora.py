"""W + s B A against the two branches it stands for, as in the authors' package."""

from __future__ import annotations

import pytest
import torch
from adapter_networks import SHAPE, adapt, far, inputs, pretrained
from torch import Tensor, nn
from torch.nn import functional as F

from nas.transforms.adapt.lora import LowRank, Sliced, low_rank, scaling
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.weights import merge


def random_(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)


@pytest.mark.parametrize("stable", [False, True])
def test_of_a_linear_layer(stable: bool) -> None:
    layer = nn.Linear(12, 10).double().requires_grad_(False)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    scale = scaling(6.0, 4, stable)
    assert scale == pytest.approx(3.0 if stable else 1.5)
    low_rank(layer, (), 4, scale)
    random_(layer)
    part = layer.parametrizations.weight[0]
    x = torch.randn(3, 7, 12).double()
    expected = F.linear(x, weight, bias) + scale * ((x @ part.down.T) @ part.up.T)
    assert far(layer(x), expected) < 1e-12
    assert merge(layer) == [".weight"]
    assert type(layer) is nn.Linear and far(layer(x), expected) < 1e-9


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_of_a_convolution(groups: int) -> None:
    layer = nn.Conv2d(8, 16, 3, 2, 1, groups=groups).double().requires_grad_(False)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    low_rank(layer, (), 2, 0.5)
    random_(layer)
    part = layer.parametrizations.weight[0]
    assert part.up.shape == (16 * 3, part.rank) and part.down.shape == (part.rank, 8 // groups * 3)
    delta = 0.5 * (part.up @ part.down).view(16, 8 // groups, 3, 3)
    x = torch.randn(2, 8, 9, 9).double()
    expected = F.conv2d(x, weight, bias, 2, 1, groups=groups)
    expected = expected + F.conv2d(x, delta, None, 2, 1, groups=groups)
    assert far(layer(x), expected) < 1e-12
    merge(layer)
    assert far(layer(x), expected) < 1e-9


def test_a_convolution_has_the_shapes_of_the_authors_package() -> None:
    """Their layer of rank 4 for 64 channels to 64 of 3 x 3 taps: (12, 192) and (192, 12)."""
    part = LowRank(torch.zeros(64, 64, 3, 3), 4, 1.0)
    assert part.down.shape == (12, 192) and part.up.shape == (192, 12)


def test_of_the_slices_of_a_fused_weight() -> None:
    weight = torch.randn(24, 8).double()
    function = Sliced(weight, [0, 2], 3, 1.0).double()
    for part in function.parts:
        nn.init.normal_(part.up)
    delta = function(weight) - weight
    first, last = (part.up @ part.down for part in function.parts)
    assert torch.allclose(delta, torch.cat([first, torch.zeros(8, 8), last]))


@pytest.mark.parametrize("mixing", ["all", "queries"])
def test_inside_of_torchs_attention(mixing: str) -> None:
    tried = adapt(pretrained("torch"), Plan("lora", mixing=mixing, channels=False))
    keys = [
        adapted.attn.inner.in_proj_weight[16:32] - plain.attn.inner.in_proj_weight[16:32]
        for adapted, plain in zip(tried.adapted.network.blocks, tried.before.blocks, strict=True)
    ]
    assert all(bool(delta.any()) == (mixing == "all") for delta in keys)
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    assert type(deployed.blocks[0].attn.inner) is nn.MultiheadAttention


def test_it_never_holds_more_than_the_weight() -> None:
    for shape in ((5, 64), (64, 64), (16, 1, 3, 3), (8, 8, 1, 1)):
        part = LowRank(torch.zeros(shape), 32, 1.0)
        assert sum(p.numel() for p in part.parameters()) <= torch.zeros(shape).numel() or (
            part.rank == 1
        )


def test_ranks_left_out_of_a_step_are_made_up_for() -> None:
    part = LowRank(torch.zeros(16, 16), 8, 1.0, drop=0.5).double()
    nn.init.normal_(part.up)
    whole = part.eval().delta()
    part.train()
    mean = torch.stack([part.delta() for _ in range(4000)]).mean(0)
    assert far(mean, whole) < 0.1
    assert not torch.equal(part.delta(), part.delta())


def test_what_the_masks_of_pruning_hold_at_zero_stays_there_when_merged() -> None:
    """2:4, adapted and merged: the pattern is the mask's, because the mask is applied last."""
    from torch.nn.utils import parametrize

    class Mask(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.mask

    network = pretrained("fused")
    kept = torch.tensor([1.0, 1, 0, 0]).repeat(4)
    for block in network.blocks:
        mask = Mask(kept.expand(32, 16).double())
        parametrize.register_parametrization(block.mlp[0], "weight", mask)
    tried = adapt(network, Plan("lora"))
    merged = [*tried.deploy()[0].blocks]
    for block, adapted in zip(merged, tried.adapted.network.blocks, strict=True):
        assert torch.equal(block.mlp[0].weight != 0, kept.expand(32, 16).bool())
        assert far(block.mlp[0].weight, adapted.mlp[0].weight) < 1e-12
    assert far(tried.deploy()[0](inputs()), tried.adapted(inputs())) < 1e-9
    assert SHAPE == (3, 16, 16)
