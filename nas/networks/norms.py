"""Normalisations of `(B, C, H, W)` maps and activations, by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core.errors import unknown


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
    """`layer` or `batch`. Raises: NasError for another name."""
    if name == "layer":
        return ChannelNorm(channels)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    raise unknown("norm", name, ["layer", "batch"])


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


def make_activation(name: str) -> nn.Module:
    """An activation by name. Raises: NasError for another name."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
