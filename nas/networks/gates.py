"""Gates: whole-map statistics that scale channels. They stay in the deployed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.merge import Linear


class SqueezeExcite(nn.Module):
    """Scales each channel by a sigmoid of all channels' means (arXiv 1709.01507).

    Args:
        channels: number of channels.
        ratio: share of the channels that the bottleneck has.
    """

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = max(1, int(channels * ratio))
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))


class ResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2, arXiv 2301.00808).

    `y = x * (gain * n + 1) + shift`, `n` a channel's L2 norm over the channels' mean.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        self.shift: nn.Parameter | None = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        response = norm / (norm.mean(1, keepdim=True) + self.eps)
        y: Tensor = x * (self.gain[:, None, None] * response + 1)
        return y if self.shift is None else y + self.shift[:, None, None]

    def absorb_shift(self, following: Linear) -> None:
        """Moves the shift into the bias of the 1x1 convolution that follows: `b' = b + W shift`."""
        assert self.shift is not None
        weight = following.weight.detach().double().flatten(1)
        bias = weight @ self.shift.detach().double()
        if following.bias is not None:
            bias = bias + following.bias.detach().double()
        following.bias = nn.Parameter(bias.to(following.weight))
        self.shift = None
