"""Recursive gated convolution (HorNet, arXiv 2207.14284)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Depthwise, Size
from nas.networks.mixers.spectrum import GlobalFilter
from nas.networks.parts.norms import ChannelNorm


@dataclass(frozen=True)
class Gated:
    """A gated convolution.

    Args:
        order: how many times features multiply features, 1 to 5.
        kernel: taps a side of the depthwise convolution; 0 is the global filter.
        scale: what its output is multiplied by.
    """

    order: int = 3
    kernel: int = 7
    scale: float = 1 / 3


class GatedConvolution(nn.Module):
    """gnConv: parts of twice the channels multiply each other, from the narrowest to the widest."""

    def __init__(self, channels: int, plan: Gated, size: Size) -> None:
        super().__init__()
        self.widths = [channels // 2**i for i in reversed(range(plan.order))]
        self.scale = plan.scale
        self.enter = nn.Conv2d(channels, self.widths[0] + sum(self.widths), 1)
        total = sum(self.widths)
        self.spatial: nn.Module = (
            Depthwise(total, plan.kernel) if plan.kernel else LocalGlobalFilter(total, size)
        )
        self.widen = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(self.widths, self.widths[1:], strict=False)
        )
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        narrow, rest = self.enter(x).split([self.widths[0], sum(self.widths)], 1)
        first, *later = (self.spatial(rest) * self.scale).split(self.widths, 1)
        y = narrow * first
        for layer, part in zip(self.widen, later, strict=True):
            y = layer(y) * part
        z: Tensor = self.leave(y)
        return z


class LocalGlobalFilter(nn.Module):
    """Half of the channels through a 3x3 convolution, half through a global filter, interleaved."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.before = ChannelNorm(channels)
        self.local = Depthwise(channels // 2, 3, bias=False)
        self.filter = GlobalFilter(channels // 2, size)
        self.after = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        local, everywhere = torch.split(self.before(x), x.shape[1] // 2, 1)
        both = torch.stack((self.local(local), self.filter(everywhere)), 2)
        y: Tensor = self.after(both.flatten(1, 2))
        return y
