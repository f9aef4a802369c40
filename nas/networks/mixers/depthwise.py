"""One depthwise convolution for kernels of any size; every token mixer is made of it.

In training it is computed by whichever exact methods are fastest for its shape, device and pass:
`nas.networks.largekernel` has them. A tap further than `size - 1` from the centre only ever meets
the zero padding and is left out: same output, same gradient (zero on dead taps).
Outside training the layer is always the plain, whole convolution: what is counted and exported.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nas.networks.largekernel.convolution import convolve, convolve_quickly
from nas.networks.largekernel.geometry import Size, crop, reach
from nas.networks.parts.log import Log

__all__ = ["Depthwise", "Mergeable", "Size", "crop", "cut", "deploy", "plain", "reach"]


@runtime_checkable
class Mergeable(Protocol):
    """A layer that becomes another one for deployment, given the size of the map it sees."""

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The deployed layer, exact in eval mode; may be the layer itself, changed."""


def deploy(layer: nn.Module, path: str, size: Size, log: Log) -> nn.Module:
    """The layer's deployed form; the layer itself where it has none."""
    return layer.deployed(path, size, log) if isinstance(layer, Mergeable) else layer


class Depthwise(nn.Module):
    """A depthwise convolution of stride 1 that keeps the map's size.

    Args:
        channels: number of channels.
        kernel: odd taps, one number or `(rows, columns)`.
        dilation: distance between taps.
        bias: whether each channel adds a constant.
    """

    def __init__(
        self, channels: int, kernel: int | Size, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(channels, 1, *self.kernel))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        way = convolve_quickly if self.training else convolve
        return way(x, self.weight, self.bias, dilation=self.dilation)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Conv2d:
        """The same as a plain convolution, cut to the map."""
        return plain(path, self.weight, self.bias, size, log, self.dilation)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.weight.shape[0]}, kernel={self.kernel}, dilation={self.dilation}"


def cut(path: str, weight: Tensor, size: Size, log: Log, dilation: int = 1) -> Tensor:
    """`crop`, written down."""
    kept = crop(weight, size, dilation)
    if kept.shape != weight.shape:
        before, after = (f"{w.shape[-2]}x{w.shape[-1]}" for w in (weight, kept))
        log.touch(path, f"{before} kernel cut to {after} on a {size[0]}x{size[1]} map")
    return kept


def plain(
    path: str, weight: Tensor, bias: Tensor | None, size: Size, log: Log, dilation: int = 1
) -> nn.Conv2d:
    """A plain depthwise convolution with this weight, cut to the taps that a map can meet."""
    kept = cut(path, weight, size, log, dilation)
    channels, _, tall, wide = kept.shape
    conv = nn.Conv2d(
        channels,
        channels,
        (tall, wide),
        padding=(tall // 2 * dilation, wide // 2 * dilation),
        dilation=dilation,
        groups=channels,
        bias=bias is not None,
        device="meta",
    )
    conv.weight = nn.Parameter(kept.detach().clone(memory_format=torch.contiguous_format))
    conv.bias = None if bias is None else nn.Parameter(bias.detach().to(kept))
    return conv
