"""Res2Net's convolution: scales inside one layer (arXiv 1904.01169)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.parts.layers import conv_norm


class ScaledConv(nn.Module):
    """The channels in `scale` parts: each but the last is convolved, after adding the one before.

    In the first block of a stage nothing is added, and the last part is averaged.

    Args:
        channels: a multiple of `scale * groups`.
        scale: number of parts.
        groups: of each part's convolution (Res2NeXt).
        stride: of all parts.
        first: whether this is a stage's first block.
        activation, norm: after each convolution.
    """

    def __init__(
        self, channels: int, scale: int, groups: int, stride: int, first: bool, activation: str,
        norm: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width = channels // scale
        self.first = first
        self.convs = nn.ModuleList(
            conv_norm(self.width, self.width, 3, stride, activation, norm, groups)
            for _ in range(max(1, scale - 1))
        )
        self.pool = nn.AvgPool2d(3, stride, 1) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H / stride, W / stride)`."""
        parts = torch.split(x, self.width, 1)
        done: list[Tensor] = []
        for part, conv in zip(parts, self.convs, strict=False):
            done.append(conv(part if self.first or not done else part + done[-1]))
        if len(parts) > len(done):
            done.append(self.pool(parts[-1]))
        return torch.cat(done, 1)
