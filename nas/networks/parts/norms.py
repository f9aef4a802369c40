"""Normalisations of `(B, C, H, W)` maps and `(B, N, C)` tokens, by name."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.parts.unified import UnifiedNorm


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel (ConvNeXt, arXiv 2201.03545)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        shape = self.weight.shape
        y = F.layer_norm(x.permute(0, 2, 3, 1), shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def make_norm(name: str, channels: int) -> nn.Module:
    """`layer`, `batch`, `group` (32 groups or fewer) or `unified` (`nas.networks.parts.unified`).

    Raises: NasError for another name.
    """
    if name == "layer":
        return ChannelNorm(channels)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    if name == "unified":
        return UnifiedNorm(channels)
    raise unknown("norm", name, ["layer", "batch", "group", "unified"])


def make_token_norm(name: str, channels: int, eps: float = 1e-5) -> nn.Module:
    """`layer` or `unified`, of tokens `(B, N, C)`. Raises: NasError for another name."""
    if name == "layer":
        return nn.LayerNorm(channels, eps=eps)
    if name == "unified":
        return UnifiedNorm(channels, axis=-1)
    raise unknown("norm", name, ["layer", "unified"])
