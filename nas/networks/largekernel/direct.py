"""Direct sums: the framework's own convolution, and its forward kernel used for the gradients too.

oneDNN's forward depthwise kernel comes within a tenth of a core's peak for any kernel that it takes
unrolled, while the backward ones, of the same arithmetic, are 10 to 250 times slower for large
kernels (torch 2.13, Zen 4). Both gradients are forward convolutions again: that of the input is the
output's gradient with the kernel turned by 180 degrees; that of the weight is each input map with
the map of the output's gradient as its kernel, as many "channels" as there are maps in the batch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.largekernel.geometry import Geometry, spread
from nas.networks.largekernel.method import Gradients, wide
from nas.networks.parts.layout import layout_of

_CACHED = 2**18  # entries of the images that a core works on at a time: a megabyte, as its cache
_AT_ONCE = 2**24  # entries of per-image weight gradients held at a time


class Native:
    """`F.conv2d` with the framework's own gradients."""

    name: ClassVar[str] = "native"
    takes_cells: ClassVar[bool] = False
    widens: ClassVar[bool] = False

    def cost(self, geometry: Geometry) -> float | None:
        """Seconds for kernels past 17x17 are not worth finding out; CUDA's are always measured.

        oneDNN's gradients of one channel write outside of their memory for some tall kernels.
        """
        if geometry.channels == 1:
            return None
        taps, pixels = _taps_and_pixels(geometry)
        large = geometry.kernel[0] * geometry.kernel[1] > 17 * 17
        return math.inf if large else 0.2 * taps * pixels + 3 * pixels

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """One call."""
        g = geometry
        return F.conv2d(x, weight, None, g.stride, g.padding, g.dilation, g.channels)

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """One call for both."""
        g = geometry
        found = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [g.stride] * 2, g.padding, [g.dilation] * 2, False, [0, 0],
            g.channels, [*wanted, False],
        )  # fmt: skip
        return found[0], found[1]


class Direct:
    """The forward kernel for all three passes, in one memory layout."""

    takes_cells: ClassVar[bool] = False
    widens: ClassVar[bool] = True
    name: ClassVar[str] = "direct"
    layout: ClassVar[torch.memory_format] = torch.channels_last

    def cost(self, geometry: Geometry) -> float | None:
        """At about 80 GFLOP/s forward and half as much for the weight, whatever the kernel."""
        taps, pixels = _taps_and_pixels(geometry)
        return 0.04 * taps * pixels + 3 * pixels

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """One call, in this layout."""
        return self._convolved(x, weight, geometry)

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """Each gradient a forward convolution."""
        g = geometry
        dx = dw = None
        if wanted[0]:
            dx = self._convolved(spread(grad, g), weight.flip((-2, -1)), replace(g, stride=1))
        if wanted[1]:
            count = max(1, min(_AT_ONCE // (g.channels * g.kernel[0] * g.kernel[1]), _images(x)))
            starts = range(0, g.batch, count)
            sums = [self._by_images(x[i : i + count], grad[i : i + count], g) for i in starts]
            dw = (torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]).to(weight.dtype)
        return dx, dw

    def _convolved(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """The forward kernel, on a few images at a time, so that they do not leave the cache."""
        g, count = geometry, _images(x)
        if count >= len(x):
            return self._at_once(x, weight, g).to(x.dtype)
        shape = (len(x), g.channels, *g.output)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
        for at in range(0, len(x), count):
            few = slice(at, at + count)
            out[few] = self._at_once(x[few], weight, g)
        return out

    def _at_once(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """The forward kernel, in this layout."""
        g = geometry
        return F.conv2d(
            wide(x, self.layout), weight, None, g.stride, g.padding, g.dilation, g.channels
        )

    def _by_images(self, x: Tensor, grad: Tensor, geometry: Geometry) -> Tensor:
        """The weight's gradient with the output's gradient in the place of a kernel."""
        g, maps = geometry, x.shape[0] * x.shape[1]
        y = F.conv2d(
            self._as_channels(x),
            wide(grad, torch.contiguous_format).reshape(maps, 1, *grad.shape[2:]),
            None,
            g.dilation,
            g.padding,
            g.stride,
            maps,
        )
        y = y[..., : g.kernel[0], : g.kernel[1]]  # a stride may leave rows that no tap has
        sums = torch.promote_types(y.dtype, torch.float32)
        return y.view(-1, g.channels, *g.kernel).sum(0, dtype=sums).unsqueeze(1)

    def _as_channels(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` as one image of `B * C` channels, in this layout."""
        batch, channels, height, width = x.shape
        last = wide(x.permute(2, 3, 0, 1), torch.contiguous_format)
        flat = last.reshape(1, height, width, batch * channels)
        return flat.permute(0, 3, 1, 2)


class Planar(Direct):
    """The forward kernel for all three passes, plane by plane."""

    name: ClassVar[str] = "planar"
    layout: ClassVar[torch.memory_format] = torch.contiguous_format

    def cost(self, geometry: Geometry) -> float | None:
        """oneDNN leaves its fast kernel where a line of taps is longer than about 20."""
        taps, pixels = _taps_and_pixels(geometry)
        return None if geometry.kernel[1] > 21 else 0.035 * taps * pixels + 6 * pixels

    def _as_channels(self, x: Tensor) -> Tensor:
        return wide(x, torch.contiguous_format).reshape(1, -1, *x.shape[2:])


class Phased(Direct):
    """A dilated kernel as a dense one on the map's phases: every d-th row and column is an image.

    oneDNN's dilated kernels take 10 times as long for each tap as dense ones.
    """

    name: ClassVar[str] = "phased"

    def cost(self, geometry: Geometry) -> float | None:
        """As direct, and three copies."""
        if geometry.dilation == 1 or geometry.stride > 1:
            return None
        taps, pixels = _taps_and_pixels(_of_phase(geometry))
        return (0.04 * taps + 9) * pixels * geometry.dilation**2

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Dense, on smaller images."""
        dense = _of_phase(geometry)
        y = super().forward(_phases(x, geometry.dilation), weight, dense)
        return _joined(y, geometry)

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """Dense, on smaller images."""
        dense, d = _of_phase(geometry), geometry.dilation
        dx, dw = super().backward(_phases(grad, d), _phases(x, d), weight, dense, wanted)
        return None if dx is None else _joined(dx, geometry), dw


def _of_phase(geometry: Geometry) -> Geometry:
    """What each phase of a dilated convolution is."""
    g, d = geometry, geometry.dilation
    size = (-(-g.size[0] // d), -(-g.size[1] // d))
    return Geometry(g.batch * d * d, g.channels, size, g.kernel)


def _phases(x: Tensor, dilation: int) -> Tensor:
    """`(B, C, H, W)` as `(B * d^2, C, ceil(H / d), ceil(W / d))`, zeros where a phase is short."""
    d, (height, width) = dilation, x.shape[-2:]
    whole = F.pad(x, (0, -width % d, 0, -height % d))
    parts = torch.unflatten(torch.unflatten(whole, 3, (-1, d)), 2, (-1, d))  # B, C, h, d, w, d
    last: Tensor = parts.permute(0, 3, 5, 2, 4, 1).flatten(0, 2)
    return last.permute(0, 3, 1, 2)


def _joined(y: Tensor, geometry: Geometry) -> Tensor:
    """`_phases` put together again."""
    d, (height, width) = geometry.dilation, geometry.size
    parts = torch.unflatten(y.permute(0, 2, 3, 1), 0, (geometry.batch, d, d))  # B, d, d, h, w, C
    whole: Tensor = parts.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return whole[:, :height, :width].permute(0, 3, 1, 2)


def _images(x: Tensor) -> int:
    """How many images each core's cache holds; on a GPU all are worked on together."""
    if x.device.type != "cpu":
        return len(x)
    return max(1, _CACHED * torch.get_num_threads() // (x[0].numel() or 1))


def _taps_and_pixels(geometry: Geometry) -> tuple[int, int]:
    """The taps that meet data on average, and the pixels that come out."""
    taps = 1
    for size, kernel in zip(geometry.size, geometry.kernel, strict=True):
        half = kernel // 2
        inside = sum(min(i, half) + min(size - 1 - i, half) + 1 for i in range(size))
        taps *= max(1, inside // size)
    return taps, geometry.output[0] * geometry.output[1]
