"""The convolution through the Fourier transform: its cost does not grow with the kernel.

The transform is circular, so the maps are followed by as many zeros as half a kernel reaches, and
by a few more up to a length that transforms quickly; what wraps around meets only zeros. A real
kernel acts on real and imaginary parts alike, so two images travel as one complex map: half the
work of complex transforms, and no slower inverse as real ones have. In the weight's gradient the
cross terms of the two images are imaginary, and are dropped.

The work goes channel by channel group, so that spectra stay in the cache and are never stored: the
input's is made again in the backward pass, which is quicker than memory.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from nas.networks.largekernel.geometry import Geometry, Size
from nas.networks.largekernel.method import Gradients

_AT_ONCE = 2**19  # complex entries held at a time on a processor
_AT_ONCE_CUDA = 2**26


class Fourier:
    """Batched complex transforms of pairs of images."""

    name: ClassVar[str] = "fft"
    takes_cells: ClassVar[bool] = False
    widens: ClassVar[bool] = False

    def cost(self, geometry: Geometry) -> float | None:
        """Two transforms of a pair of images, at about 20 GFLOP/s, and packing."""
        rows, columns = lengths(geometry)
        count = rows * columns
        pixels = geometry.size[0] * geometry.size[1]
        return 0.5 * count * math.log2(count) + 3 * pixels + 6 * count / geometry.batch

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Multiplies spectra."""
        g = geometry
        out = _like(x, (g.batch, g.channels, *g.output))
        for part in _parts(x, g):
            spectrum = _spectrum(x[:, part], g)
            spectrum.mul_(_of_kernel(weight[part], g).conj().resolve_conj())
            _write(out[:, part], torch.fft.ifft2(spectrum), g.stride)
        return out

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """Both from one transform of the output's gradient."""
        g = geometry
        dx = torch.empty_like(x) if wanted[0] else None
        dw = torch.empty_like(weight) if wanted[1] else None
        for part in _parts(x, g):
            back = _spectrum(grad[:, part], g, g.stride)
            if dw is not None:
                dw[part] = _taps((_spectrum(x[:, part], g) * back.conj()).sum(1), g)
            if dx is not None:
                back.mul_(_of_kernel(weight[part], g))
                _write(dx[:, part], torch.fft.ifft2(back), 1)
        return dx, dw


def lengths(geometry: Geometry) -> Size:
    """Rows and columns of the transform.

    >>> lengths(Geometry(1, 1, (56, 16), (51, 31)))
    (84, 32)
    """
    (height, width), (down, across) = geometry.size, geometry.padding
    return quick(height + down), quick(width + across)


@lru_cache
def quick(least: int) -> int:
    """The length from `least` on that transforms fastest: without primes above 7, rather even.

    The weights are those that MKL's complex transforms showed in two dimensions.

    >>> [quick(n) for n in (15, 23, 31, 63, 71, 81, 106)]
    [16, 24, 32, 64, 72, 84, 108]
    """

    def cost(length: int) -> float:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        uneven = 1.0 if length % 8 == 0 else 1.06 if length % 4 == 0 else 1.35
        return math.inf if rest > 1 else length**2 * math.log2(length + 1) * uneven

    return min(range(least, 2 * least + 2), key=cost)


def _parts(x: Tensor, geometry: Geometry) -> list[slice]:
    """Slices of channels worked on together; whole cache lines of a channels-last map."""
    rows, columns = lengths(geometry)
    held = _AT_ONCE if x.device.type == "cpu" else _AT_ONCE_CUDA
    count = max(1, held // (rows * columns * ((geometry.batch + 1) // 2)))
    return [slice(at, at + count) for at in range(0, geometry.channels, count)]


def _spectrum(x: Tensor, geometry: Geometry, stride: int = 1) -> Tensor:
    """`(B, c, h, w)` as spectra of pairs of images, `(c, ceil(B / 2), rows, columns)`."""
    batch, channels, height, width = x.shape
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    shape = (channels, (batch + 1) // 2, *lengths(geometry), 2)
    placed = torch.zeros(shape, dtype=real, device=x.device)
    corner = placed[:, :, : height * stride : stride, : width * stride : stride]
    pairs = batch // 2
    if pairs:
        even = torch.unflatten(x[: 2 * pairs], 0, (pairs, 2))
        corner[:, :pairs] = even.permute(2, 0, 3, 4, 1)
    if batch % 2:
        corner[:, pairs, ..., 0] = x[-1]
    spectrum: Tensor = torch.fft.fft2(torch.view_as_complex(placed))
    return spectrum


def _of_kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    """The kernel's spectrum with its centre at the origin, `(c, 1, rows, columns)`."""
    g, (rows, columns) = geometry, lengths(geometry)
    real = torch.float64 if weight.dtype == torch.float64 else torch.float32
    placed = torch.zeros(len(weight), 1, rows, columns, dtype=real, device=weight.device)
    (down, across), d = g.padding, g.dilation
    placed[..., : 2 * down + 1 : d, : 2 * across + 1 : d] = weight
    spectrum: Tensor = torch.fft.fft2(placed.roll((-down, -across), (-2, -1)))
    return spectrum


def _taps(spectrum: Tensor, geometry: Geometry) -> Tensor:
    """The weight `(c, 1, kh, kw)` with this spectrum `(c, rows, columns)`, at its taps only."""
    (down, across), d = geometry.padding, geometry.dilation
    around: Tensor = torch.fft.ifft2(spectrum).real.roll((down, across), (-2, -1))
    return around[:, None, : 2 * down + 1 : d, : 2 * across + 1 : d]


def _write(out: Tensor, pairs: Tensor, stride: int) -> None:
    """Pairs of images `(c, ceil(B / 2), rows, columns)` into `(B, c, h, w)`, where they belong."""
    batch, _, height, width = out.shape
    kept = torch.view_as_real(pairs)[:, :, : height * stride : stride, : width * stride : stride]
    even = batch // 2
    if even:
        torch.unflatten(out[: 2 * even], 0, (even, 2)).copy_(kept[:, :even].permute(1, 4, 0, 2, 3))
    if batch % 2:
        out[-1] = kept[:, even, ..., 0]


def _like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor in the layout of `x`."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
