"""Parts of residual networks against their formulas, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas import NasError
from nas.networks.parts.gates import EfficientChannel, GlobalContext, SpatialChannel, make_gate
from nas.networks.parts.laurel import LearnedSkip
from nas.networks.parts.shortcuts import make_shortcut
from nas.networks.res2net import ScaledConv
from nas.networks.resnest import SplitAttention
from nas.networks.resnet import ResidualNet, ResidualNetwork, ResidualStage
from nas.networks.sknet import SelectiveKernel

X = torch.randn(2, 12, 6, 6, generator=torch.Generator().manual_seed(0))


def test_a_learned_skip_starts_as_a_sum() -> None:
    join = LearnedSkip(12, "rw+lr+pa", 4)
    join.start()
    branch, earlier = torch.randn_like(X), [torch.randn_like(X) for _ in range(5)]
    assert torch.allclose(join(X, branch, earlier), X + branch)


def test_a_learned_skip_mixes_the_last_three_inputs() -> None:
    join = LearnedSkip(12, "rw+lr+pa", 4)
    branch, earlier = torch.randn_like(X), [torch.randn_like(X) for _ in range(5)]
    with torch.no_grad():
        for parameter in join.parameters():
            parameter.normal_()
        a, b = 2 * torch.softmax(join.logits, 0)
        low = join.up.weight[:, :, 0, 0] @ join.down.weight[:, :, 0, 0]
        y = X + torch.einsum("dc,bchw->bdhw", low, X)
        for share, back in zip(join.mix, (4, 3, 2), strict=True):
            y = y + share * earlier[back]
        assert torch.allclose(join(X, branch, earlier), a * branch + b * y, atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_scales_add_up_but_in_the_first_block(first: bool) -> None:
    layer = ScaledConv(12, 3, 1, 1, first, "relu", "batch").eval()
    one, two, three = X.split(4, 1)
    y = layer.convs[0](one)
    z = layer.convs[1](two if first else two + y)
    last = F.avg_pool2d(three, 3, 1, 1) if first else three
    assert torch.allclose(layer(X), torch.cat((y, z, last), 1))


@pytest.mark.parametrize("radix", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_splits_compete_for_each_channel_of_each_group(radix: int, groups: int) -> None:
    layer = SplitAttention(12, radix, groups, 1, "relu", "batch").eval()
    splits = list(layer.splits(X).split(12, 1))
    scores = layer.attend(sum(splits).mean((2, 3), keepdim=True))
    wanted = torch.zeros_like(X)
    size = 12 // groups
    for group, own in enumerate(scores.chunk(groups, 1)):  # of one group: one part a split
        parts = torch.stack(own.split(size, 1))
        shares = parts.softmax(0) if radix > 1 else parts.sigmoid()
        at = slice(group * size, (group + 1) * size)
        wanted[:, at] = sum(s[:, at] * share for s, share in zip(splits, shares, strict=True))
    assert torch.allclose(layer(X), wanted, atol=1e-6)


@pytest.mark.parametrize("halves", [False, True])
def test_two_kernels_compete_for_each_channel(halves: bool) -> None:
    layer = SelectiveKernel(12, 12, 1, 1, halves, "relu", "batch").eval()
    seen = X.chunk(2, 1) if halves else (X, X)
    paths = torch.stack([path(part) for path, part in zip(layer.paths, seen, strict=True)])
    scores = layer.attend(paths.sum(0).mean((2, 3), keepdim=True))
    shares = torch.stack(scores.chunk(2, 1)).softmax(0)
    assert torch.allclose(layer(X), (paths * shares).sum(0), atol=1e-6)


def test_gates() -> None:
    eca = EfficientChannel(2048)
    assert eca.mix.kernel_size == (7,)
    assert [EfficientChannel(c).mix.kernel_size[0] for c in (64, 128, 256, 1024)] == [3, 5, 5, 5]
    scse = SpatialChannel(12)
    pixel = X * torch.sigmoid(scse.pixel(X))
    assert torch.equal(scse(X), torch.maximum(scse.channel(X), pixel))
    context = GlobalContext(12)
    weights = context.attend(X).flatten(1).softmax(1).view(2, 1, 6, 6)
    picked = (X * weights).sum((2, 3), keepdim=True)
    wanted = X + context.excite(torch.relu(context.norm(context.squeeze(picked))))
    assert torch.allclose(context(X), wanted, atol=1e-6)
    assert isinstance(make_gate("none", 4), nn.Identity)
    with pytest.raises(NasError, match="no gate named 'sse'"):
        make_gate("sse", 4)


def test_a_pooled_shortcut_leaves_no_pixel_out() -> None:
    odd = torch.randn(1, 4, 5, 5)
    pool = make_shortcut("pool", 4, 8, 2, "batch", True)
    bare = make_shortcut("conv", 4, 8, 2, "batch", True)
    assert pool(odd).shape == bare(odd).shape == (1, 8, 3, 3)
    found = [torch.autograd.grad(f(odd.requires_grad_()).sum(), odd)[0] for f in (pool, bare)]
    assert [bool((g == 0).any()) for g in found] == [False, True]
    with pytest.raises(NasError, match="no shortcut named 'pad'"):
        make_shortcut("pad", 4, 8, 2, "batch", True)


def test_zero_gamma_starts_every_block_as_its_skip() -> None:
    stages = (ResidualStage(2, 16, 1), ResidualStage(2, 32, 2))
    net = ResidualNet(ResidualNetwork(3, 5, stages, "3x3", 16, 1, zero_gamma=True)).eval()
    x: Tensor = net.stem(torch.randn(2, 3, 8, 8))
    block = net.stages[0].blocks[0]
    assert torch.equal(block(x), torch.relu(block.shortcut(x)))


@pytest.mark.parametrize("change", [{"stem": "x"}, {"pool": "x"}, {"block": "x"}])
def test_unknown_parts(change: dict[str, str]) -> None:
    plan = {"stem": "3x3", "stem_stride": 4, **change}
    with pytest.raises(NasError, match=f"no {next(iter(change))} named 'x'"):
        ResidualNet(ResidualNetwork(3, 5, (ResidualStage(1, 16, 1),), **plan))
