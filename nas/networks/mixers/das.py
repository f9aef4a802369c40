"""A gate on pixels that looks where the image says (DAS, arXiv 2311.12091)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.mixers.codenet import DeformableConvolution


class SalientGate(nn.Module):
    """Squeezed features, a deformable convolution, a sigmoid, a product with the map.

    The paper's counts fit no dense deformable convolution, so a share and groups are knobs.

    Args:
        channels: of the map.
        share: of the channels that the squeezed features have.
    """

    def __init__(self, channels: int, share: float = 0.2) -> None:
        super().__init__()
        inner = max(1, int(channels * share))
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.norm = nn.InstanceNorm2d(inner, affine=True)
        self.activation = nn.GELU()
        self.deform = DeformableConvolution(inner, channels, "original")
        self.last = nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.activation(self.norm(self.squeeze(self.spatial(x))))
        z: Tensor = x * torch.sigmoid(self.last(self.deform(y)))
        return z
