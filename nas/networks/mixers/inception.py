"""Inception depthwise convolution (InceptionNeXt, arXiv 2303.16900)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Depthwise, Size
from nas.networks.parts.log import Log


class InceptionMixer(nn.Module):
    """Three small groups of channels get a square and two bands; the first channels pass unchanged.

    The channels' order is: passed, square 3x3, band 1xK, band Kx1.

    Args:
        channels: number of channels.
        band: length K of the bands.
        fraction: share of the channels in each of the three groups, below a third.
        bias: whether the convolutions add a constant.
    """

    def __init__(self, channels: int, band: int, fraction: float, bias: bool = True) -> None:
        super().__init__()
        group = max(1, int(channels * fraction))
        self.sizes = [channels - 3 * group, group, group, group]
        self.square = Depthwise(group, 3, bias=bias)
        self.row = Depthwise(group, (1, band), bias=bias)
        self.column = Depthwise(group, (band, 1), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        passed, square, row, column = torch.split(x, self.sizes, 1)
        return torch.cat((passed, self.square(square), self.row(row), self.column(column)), 1)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """Cuts each group's kernel to the map."""
        for name in ("square", "row", "column"):
            setattr(self, name, getattr(self, name).deployed(f"{path}.{name}", size, log))
        return self
