"""What sits at the end of a residual branch: layer scale and stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A learned factor for each channel, tiny at first (CaiT, arXiv 2103.17239)."""

    def __init__(self, channels: int, initial: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return x * self.gamma[:, None, None]


class DropPath(nn.Module):
    """Drops the whole branch of an example with probability `rate` in training (arXiv 1603.09382).

    What is kept is scaled up, so the mean does not change.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ...)` to the same shape."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * (kept.to(x) / (1 - self.rate))

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.rate}"
