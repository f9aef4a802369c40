"""One depthwise convolution for kernels of any size; every token mixer is made of it.

A tap further than `size - 1` from the centre only ever meets the zero padding, so in training the
kernel is cut to its central `2 * size - 1` taps: same output, same gradient (zero on dead taps).
Torch's depthwise kernels slow down with the square of the kernel on the CPU, so there the product
goes through a real Fourier transform wherever that was measured to be faster.
Outside training the layer is always the plain, whole convolution: what is counted and exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.log import Log

Size = tuple[int, int]


@runtime_checkable
class Mergeable(Protocol):
    """A layer that becomes another one for deployment, given the size of the map it sees."""

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The deployed layer, exact in eval mode; may be the layer itself, changed."""


def deploy(layer: nn.Module, path: str, size: Size, log: Log) -> nn.Module:
    """The layer's deployed form; the layer itself where it has none."""
    return layer.deployed(path, size, log) if isinstance(layer, Mergeable) else layer


def reach(taps: int, size: int, dilation: int = 1) -> int:
    """How many central taps of a line of `taps` can meet a map `size` wide.

    >>> reach(47, 14), reach(3, 14), reach(5, 4, dilation=2)
    (27, 3, 3)
    """
    return min(taps, 2 * ((size - 1) // dilation) + 1)


def crop(weight: Tensor, size: Size, dilation: int = 1) -> Tensor:
    """The central taps of a `(C, 1, kh, kw)` weight that can meet a map of `size`; a view."""
    for axis, width in zip((-2, -1), size, strict=True):
        taps = weight.shape[axis]
        kept = reach(taps, width, dilation)
        weight = weight.narrow(axis, (taps - kept) // 2, kept)
    return weight


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """Depthwise convolution of `x (B, C, H, W)` with odd kernels `(C, 1, kh, kw)`, same size."""
    padding = [(taps - 1) // 2 * dilation for taps in weight.shape[-2:]]
    return F.conv2d(x, weight, bias, 1, padding, dilation, groups=weight.shape[0])


def convolve_by_fft(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`convolve` through the real Fourier transform: the same up to rounding.

    The transform is circular, so the map is followed by as many zeros as half a kernel reaches;
    what wraps around meets only those. The kernel's centre is rolled to the origin, and its
    spectrum conjugated because networks correlate rather than convolve.
    """
    height, width = x.shape[-2:]
    tall, wide = weight.shape[-2:]
    rows = _smooth(height + tall // 2)
    columns = _smooth(width + wide // 2)
    placed = F.pad(weight[:, 0], (0, columns - wide, 0, rows - tall))
    placed = placed.roll((-(tall // 2), -(wide // 2)), (-2, -1))
    spectrum = torch.fft.rfft2(x, s=(rows, columns)) * torch.fft.rfft2(placed).conj()
    y: Tensor = torch.fft.irfft2(spectrum, s=(rows, columns))[..., :height, :width]
    return y if bias is None else y + bias[:, None, None]


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1, training: bool = False
) -> Tensor:
    """The convolution in whichever exact way suits: whole outside training, fastest within it."""
    if not training:
        return convolve(x, weight, bias, dilation)
    size = (x.shape[-2], x.shape[-1])
    weight = crop(weight, size, dilation)
    if dilation == 1 and x.device.type == "cpu" and fft_is_faster(weight.shape, size):
        return convolve_by_fft(x, weight, bias)
    return convolve(x, weight, bias, dilation)


def fft_is_faster(kernel: Sequence[int], size: Size) -> bool:
    """Whether a training step through the transform beats the direct one on a CPU thread.

    Measured with torch 2.13, 16 images, 32 to 256 channels: from 5x5 kernels on maps of 16x16 and
    larger (31x31 on 32x32: 18 ms against 609), from 7x7 on 8x8, never on smaller maps.
    """
    taps, pixels = kernel[-2] * kernel[-1], size[0] * size[1]
    return (pixels >= 256 and taps >= 25) or (pixels >= 64 and taps >= 49)


def _smooth(length: int) -> int:
    """The next even length without prime factors above 5, which transforms quickly."""
    length += length % 2
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else _smooth(length + 2)


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
        return depthwise(x, self.weight, self.bias, self.dilation, self.training)

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
