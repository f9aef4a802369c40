"""What a depthwise convolution is apart from its numbers, and which taps of it can meet data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """The shapes of a depthwise convolution whose centre tap visits pixels 0, s, 2s, ...

    Args:
        batch: images.
        channels: maps an image, each with a kernel of its own.
        size: rows and columns of the input maps.
        kernel: odd taps, rows and columns.
        stride: pixels between two outputs.
        dilation: pixels between two taps.
        cells: where rows and columns of taps share weights, the cell of each tap of a line; the
            weight then has one entry a cell, and the kernel as many taps as `cells` has entries.
    """

    batch: int
    channels: int
    size: Size
    kernel: Size
    stride: int = 1
    dilation: int = 1
    cells: tuple[int, ...] | None = None

    @property
    def output(self) -> Size:
        """Rows and columns of the output maps.

        >>> Geometry(1, 1, (8, 7), (5, 5), stride=2).output
        (4, 4)
        """
        return ((self.size[0] - 1) // self.stride + 1, (self.size[1] - 1) // self.stride + 1)

    @property
    def padding(self) -> Size:
        """Zeros on each side: how far the kernel reaches from its centre."""
        return (self.kernel[0] // 2 * self.dilation, self.kernel[1] // 2 * self.dilation)

    @property
    def transposed(self) -> Geometry:
        """The same with rows and columns exchanged."""
        return replace(self, size=self.size[::-1], kernel=self.kernel[::-1])

    def cropped(self) -> Geometry:
        """The same function with the taps left out that only ever meet the padding."""
        kernel = (
            reach(self.kernel[0], self.size[0], self.dilation),
            reach(self.kernel[1], self.size[1], self.dilation),
        )
        return replace(self, kernel=kernel, cells=None)


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


def uncrop(weight: Tensor, kernel: Size) -> Tensor:
    """A cropped weight, or its gradient, among zeros: `crop`'s adjoint."""
    rows, columns = (kernel[0] - weight.shape[-2]) // 2, (kernel[1] - weight.shape[-1]) // 2
    return F.pad(weight, (columns, columns, rows, rows)) if rows or columns else weight


def spread(grad: Tensor, geometry: Geometry) -> Tensor:
    """A gradient `(B, C, h, w)` at the pixels it belongs to, zeros between: `(B, C, H, W)`."""
    if geometry.stride == 1:
        return grad
    placed = grad.new_zeros(*grad.shape[:2], *geometry.size)
    placed[..., :: geometry.stride, :: geometry.stride] = grad
    return placed


def dense_lines(weight: Tensor, length: int, dilation: int) -> Tensor:
    """The last axis on a line of `2 * length - 1` with the centre in the middle.

    Taps out of reach must have been cropped. `(..., k)` to `(..., 2 * length - 1)`.
    """
    taps = weight.shape[-1]
    line = weight.new_zeros(*weight.shape[:-1], 2 * length - 1)
    first = length - 1 - taps // 2 * dilation
    line[..., first : first + (taps - 1) * dilation + 1 : dilation] = weight
    return line


def taps_of_lines(line: Tensor, taps: int, dilation: int) -> Tensor:
    """The taps on such a line: `dense_lines`' adjoint."""
    length = (line.shape[-1] + 1) // 2
    first = length - 1 - taps // 2 * dilation
    return line[..., first : first + (taps - 1) * dilation + 1 : dilation]
