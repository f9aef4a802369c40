"""From maps to vectors."""

from __future__ import annotations

from torch import Tensor, nn


class SpatialMean(nn.Module):
    """The mean of each map, `(B, C, H, W)` to `(B, C)`.

    Torch's adaptive pooling means the same, but fixes the memory layout of its result, which
    exports as a gather wherever the layer before it left channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        return x.mean((2, 3))
