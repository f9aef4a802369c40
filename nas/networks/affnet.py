"""AFFNet: mobile bottlenecks, then stages that filter in the spectrum (arXiv 2307.14008)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.networks.mixers.spectrum import AdaptiveFilter
from nas.networks.parts.layers import conv_norm, named
from nas.networks.parts.norms import ChannelNorm
from nas.networks.parts.pooling import SpatialMean


@dataclass(frozen=True)
class FrequencyStage:
    """One stage: a bottleneck that changes width and size, then `depth` blocks.

    Args:
        depth: of mobile bottlenecks in all, or of filter blocks behind the first bottleneck.
        width: channels.
        stride: of the first bottleneck.
        filtered: whether the blocks filter.
        blocks: of channels in the filter. threshold: of its shrinkage.
    """

    depth: int
    width: int
    stride: int = 2
    filtered: bool = True
    blocks: int = 8
    threshold: float = 0.01


@dataclass(frozen=True)
class FrequencyNetwork:
    """The network around the stages.

    Args:
        channels: of the input.
        outputs: size of the output.
        stages: two plain and three filtered ones, as published.
        stem_width, stem_stride: of the first convolution.
        expansion: hidden over input width of the bottlenecks between stages.
        inner: the same of those inside filter blocks.
        head_width: the head's over the last stage's channels, up to 960.
    """

    channels: int
    outputs: int
    stages: tuple[FrequencyStage, ...]
    stem_width: int = 16
    stem_stride: int = 2
    expansion: int = 2
    inner: int = 2
    head_width: int = 4


class Bottleneck(nn.Module):
    """Expand, 3x3 depthwise, project (MobileNetV2); the input is added where nothing changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.layers = nn.Sequential(
            *conv_norm(inputs, hidden, 1, 1, "silu"),
            *conv_norm(hidden, hidden, 3, stride, "silu", groups=hidden),
            *conv_norm(hidden, outputs, 1, 1, "none"),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class FilterBlock(nn.Module):
    """Norm, bottleneck, norm, adaptive filter; the input is added once."""

    def __init__(self, stage: FrequencyStage, inner: int) -> None:
        super().__init__()
        width = stage.width
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.bottleneck = Bottleneck(width, width, 1, inner)
        self.filter = AdaptiveFilter(width, stage.blocks, stage.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y: Tensor = x + self.filter(self.norm2(self.bottleneck(self.norm1(x))))
        return y


class FilterStage(nn.Module):
    """Filter blocks, a 1x1 convolution, and another that mixes what came in and what came out."""

    def __init__(self, stage: FrequencyStage, inner: int) -> None:
        super().__init__()
        width = stage.width
        self.blocks = nn.Sequential(*[FilterBlock(stage, inner) for _ in range(stage.depth)])
        self.norm = ChannelNorm(width)
        self.project = conv_norm(width, width, 1, 1, "none")
        self.fuse = conv_norm(2 * width, width, 1, 1, "silu")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.project(self.norm(self.blocks(x)))
        z: Tensor = self.fuse(torch.cat((x, y), 1))
        return z


class FrequencyNet(nn.Module):
    """Stem, stages, head."""

    def __init__(self, network: FrequencyNetwork) -> None:
        super().__init__()
        width = network.stem_width
        self.stem = conv_norm(network.channels, width, 3, network.stem_stride, "silu")
        stages: list[nn.Module] = []
        for stage in network.stages:
            layers: list[nn.Module] = [
                Bottleneck(width, stage.width, stage.stride, network.expansion)
            ]
            width = stage.width
            if stage.filtered:
                layers.append(FilterStage(stage, network.inner))
            else:
                more = range(stage.depth - 1)
                layers += [Bottleneck(width, width, 1, network.expansion) for _ in more]
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        end = min(network.head_width * width, 960)
        self.head = named(
            mix=conv_norm(width, end, 1, 1, "silu"), pool=SpatialMean(),
            linear=nn.Linear(end, network.outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y
