"""Plain 3x3 networks: RepVGG (arXiv 2101.03697), RepOpt-VGG (arXiv 2205.15242).

RepVGG trains three branches, 3x3, 1x1 and identity, and deploys their sum, one 3x3 convolution.
RepOpt trains that one convolution from the start, and multiplies its gradients by what the branches
would have made of them (`nas.training.repopt`): nothing is left to merge, and nothing that
quantises badly because it was merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size
from nas.networks.parts.gates import SqueezeExcite
from nas.networks.parts.layers import conv, named
from nas.networks.parts.log import Log
from nas.networks.parts.merge import centred, normalised
from nas.networks.parts.pooling import SpatialMean


@dataclass(frozen=True)
class PlainStage:
    """One stage: `depth` blocks, the first with the stride.

    Args:
        depth: number of blocks.
        width: channels.
        stride: of the first block.
        groups: of every second block of the network; 1 is dense.
    """

    depth: int
    width: int
    stride: int = 2
    groups: int = 1


@dataclass(frozen=True)
class PlainNetwork:
    """The network around the stages.

    Args:
        channels: of the input.
        outputs: size of the output.
        stages: what follows the stem.
        stem_width: channels of the stem, a block of its own.
        stem_stride: its stride.
        branches: `three` (RepVGG), `pointwise` (3x3 and 1x1), `one` (plain), `repopt` (one, its
            gradients multiplied) or `scaled` (RepOpt's search for the multipliers: 3x3, 1x1 and
            identity with a trained factor a channel each, one norm behind their sum).
        gate: `none` or `se` behind every block's sum.
    """

    channels: int
    outputs: int
    stages: tuple[PlainStage, ...]
    stem_width: int = 64
    stem_stride: int = 2
    branches: str = "three"
    gate: str = "none"


class BranchedBlock(nn.Module):
    """3x3, 1x1 and, where nothing changes size, identity, each with a batch norm; gate; ReLU."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, groups: int, gate: str, identity: bool
    ) -> None:
        super().__init__()
        self.groups = groups
        self.convs = nn.ModuleList(
            [conv(inputs, outputs, 3, stride, groups), conv(inputs, outputs, 1, stride, groups)]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in self.convs)
        same = identity and stride == 1 and inputs == outputs
        self.identity = nn.BatchNorm2d(outputs) if same else None
        self.gate = SqueezeExcite(outputs, 1 / 16) if gate == "se" else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        y: Tensor = sum(
            (norm(layer(x)) for layer, norm in zip(self.convs, self.norms, strict=True)),
            start=torch.zeros((), device=x.device, dtype=x.dtype),
        )
        if self.identity is not None:
            y = y + self.identity(x)
        z: Tensor = self.relu(self.gate(y))
        return z

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """One 3x3 convolution: the branches' kernels around one centre, added."""
        large, _ = self.convs
        assert isinstance(large, nn.Conv2d)
        parts = [
            normalised(layer.weight, layer.bias, norm)  # type: ignore[arg-type]
            for layer, norm in zip(self.convs, self.norms, strict=True)
        ]
        if self.identity is not None:
            parts.append(normalised(unit(large.weight, self.groups), None, self.identity))
        merged = nn.Conv2d(
            large.in_channels, large.out_channels, 3, large.stride[0], 1, groups=self.groups,
            device="meta",
        )  # fmt: skip
        weight = centred([weight for weight, _ in parts])
        bias = torch.stack([bias for _, bias in parts]).sum(0)
        merged.weight = nn.Parameter(weight.to(large.weight))
        merged.bias = nn.Parameter(bias.to(large.weight))
        log.touch(path, f"{len(parts)} branches into one 3x3 convolution")
        return named(conv=merged, gate=self.gate, relu=self.relu)


class ScaledBlock(nn.Module):
    """The linear block that RepOpt finds its multipliers with: trained factors, no inner norms.

    `y = norm(s3 * conv3x3(x) + s1 * conv1x1(x) + s0 * x)`, ReLU; the identity where nothing
    changes size. In block `index` of a stage (from 0) the factors of the convolutions start at
    `sqrt(2 / index)`, in the first at 1; that of the identity at 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, index: int) -> None:
        super().__init__()
        self.large = conv(inputs, outputs, 3, stride, groups)
        self.small = conv(inputs, outputs, 1, stride, groups)
        large, small, identity = factors(outputs, index, stride == 1 and inputs == outputs)
        self.scale_large, self.scale_small = nn.Parameter(large), nn.Parameter(small)
        self.scale_identity = None if identity is None else nn.Parameter(identity)
        self.groups = groups
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        y = self.scale_large[:, None, None] * self.large(x)
        y = y + self.scale_small[:, None, None] * self.small(x)
        if self.scale_identity is not None:
            y = y + self.scale_identity[:, None, None] * x
        z: Tensor = self.relu(self.norm(y))
        return z

    def kernel(self) -> Tensor:
        """The 3x3 kernel that the block is, before its norm, float64."""
        parts = [
            self.scale_large.double().view(-1, 1, 1, 1) * self.large.weight.double(),
            self.scale_small.double().view(-1, 1, 1, 1) * self.small.weight.double(),
        ]
        if self.scale_identity is not None:
            same = unit(self.large.weight, self.groups).double()
            parts.append(self.scale_identity.double().view(-1, 1, 1, 1) * same)
        return centred(parts)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """One 3x3 convolution."""
        merged = conv(
            self.large.in_channels, self.large.out_channels, 3, self.large.stride[0], self.groups
        )
        merged.weight = nn.Parameter(self.kernel().detach().to(self.large.weight))
        log.touch(path, "scaled branches into one 3x3 convolution")
        return named(conv=merged, norm=self.norm, relu=self.relu)


class RepOptBlock(nn.Sequential):
    """One 3x3 convolution, norm, ReLU; it says how the branches' gradients would differ from its.

    It starts as the sum of freshly drawn branches, scaled. Two buffers, as large as the weight,
    hold what each of its gradients is to be multiplied by, `squared` under SGD and `first` under
    Adam's kin.
    """

    squared: Tensor
    first: Tensor

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, index: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, 3, stride, groups)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.groups = groups
        self.register_buffer("squared", torch.ones_like(self.conv.weight))
        self.register_buffer("first", torch.ones_like(self.conv.weight))
        self.follow(ScaledBlock(inputs, outputs, stride, groups, index))

    def follow(self, searched: ScaledBlock) -> None:
        """Takes up a block's branches as they are: their sum, and how each of them learns.

        A weight `t * w3 + s * w1 + d` moves under SGD by `t^2 + s^2 + 1` times what it would by
        itself, `s` at the centre alone and 1 (the identity's own factor is trained) on its
        diagonal; under Adam, to which a gradient's size is nothing, by `t + s + 1`.
        """
        large, small = searched.scale_large.detach(), searched.scale_small.detach()
        same = unit(self.conv.weight, self.groups) * (searched.scale_identity is not None)
        with torch.no_grad():
            self.conv.weight.copy_(searched.kernel())
            for buffer, power in ((self.squared, 2), (self.first, 1)):
                spread = large.abs().view(-1, 1, 1, 1).expand_as(buffer) ** power + same
                spread[..., 1, 1] += small.abs().view(-1, 1) ** power
                buffer.copy_(spread)


def factors(channels: int, index: int, identity: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """The first factors of a scaled block's 3x3, 1x1 and identity branches, `(channels,)` each."""
    first = (2.0 / index) ** 0.5 if index else 1.0
    ones = torch.ones(channels)
    return first * ones, first * ones, ones.clone() if identity else None


def unit(like: Tensor, groups: int) -> Tensor:
    """The 3x3 kernel `(O, I / groups, 3, 3)` that passes every channel through."""
    outputs, inputs = like.shape[:2]
    kernel = torch.zeros(outputs, inputs, 3, 3, dtype=like.dtype, device=like.device)
    if outputs == inputs * groups:
        rows = torch.arange(outputs, device=like.device)
        kernel[rows, rows % inputs, 1, 1] = 1.0
    return kernel


def make_block(
    network: PlainNetwork, inputs: int, outputs: int, stride: int, groups: int, index: int
) -> nn.Module:
    """Block `index` of a stage."""
    if network.branches == "scaled":
        return ScaledBlock(inputs, outputs, stride, groups, index)
    if network.branches == "repopt":
        return RepOptBlock(inputs, outputs, stride, groups, index)
    if network.branches == "one":
        gate = SqueezeExcite(outputs, 1 / 16) if network.gate == "se" else nn.Identity()
        layer = conv(inputs, outputs, 3, stride, groups)
        return named(conv=layer, norm=nn.BatchNorm2d(outputs), gate=gate, relu=nn.ReLU())
    identity = network.branches == "three"
    return BranchedBlock(inputs, outputs, stride, groups, network.gate, identity)


class PlainNet(nn.Module):
    """Stem, stages, mean, linear layer."""

    def __init__(self, network: PlainNetwork) -> None:
        super().__init__()
        self.stem = make_block(
            network, network.channels, network.stem_width, network.stem_stride, 1, 0
        )
        width, number, stages = network.stem_width, 0, []
        for stage in network.stages:
            blocks = []
            for index in range(stage.depth):
                number += 1  # over all stages: every second block is grouped
                groups = stage.groups if number % 2 == 0 else 1
                stride = stage.stride if index == 0 else 1
                blocks.append(make_block(network, width, stage.width, stride, groups, index))
                width = stage.width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = named(pool=SpatialMean(), linear=nn.Linear(width, network.outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y
