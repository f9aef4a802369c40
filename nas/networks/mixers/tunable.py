"""A convolution that is tuned after training (tunable convolutions, arXiv 2304.00898)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size, plain
from nas.networks.parts.log import Log


class TunableConvolution(nn.Module):
    """A depthwise convolution whose kernel is a sum of kernels, weighted by numbers one sets.

    In training the numbers are drawn for each batch, so that every mixture is good; outside they
    are what `setting` says, evenly by default. Deployed, it is one convolution.

    Args:
        channels: of the map.
        kernel: odd taps a side.
        numbers: how many there are, one for each aim that is traded off.
        mapped: whether the numbers go through a linear layer first.
    """

    setting: Tensor

    def __init__(self, channels: int, kernel: int, numbers: int = 2, mapped: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(0.02 * torch.randn(numbers, channels, 1, kernel, kernel))
        self.biases = nn.Parameter(torch.zeros(numbers, channels))
        self.map = nn.Linear(numbers, numbers) if mapped else nn.Identity()
        self.register_buffer("setting", torch.full((numbers,), 1.0 / numbers))

    def mixed(self, setting: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel `(C, 1, K, K)` and bias `(C,)` for some numbers."""
        shares = self.map(setting)
        return (shares @ self.weights.flatten(1)).reshape(self.weights.shape[1:]), (
            shares @ self.biases
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        setting = self.setting
        if self.training:
            drawn = torch.rand_like(setting)
            setting = drawn / drawn.sum()
        weight, bias = self.mixed(setting)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1])

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """One convolution, of the numbers as they are set."""
        weight, bias = self.mixed(self.setting)
        shown = ", ".join(f"{float(v):.3g}" for v in self.setting) if not weight.is_meta else "set"
        log.touch(path, f"{len(self.setting)} kernels into one, at {shown}")
        return plain(path, weight, bias, size, log)
