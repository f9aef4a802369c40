"""Stripes and pooled sums: rows gathered, columns as a Toeplitz product.

`y[i, :] = sum_p u_p[i, :] @ T_p`, where `u_p[i]` is the input row that kernel row `p` sees from
output row `i`, and `T_p` the band matrix of that kernel row. All `p` stand side by side, so that it
is one matrix product for each channel, of `p * W` multiplications a pixel: little for a stripe, of
few rows, and on maps narrower than the kernel.

Where rows of taps share weights in cells (PeLK, arXiv 2403.07589), `u_p` is the sum of the rows of
one cell, taken once for all of them from running sums: a kernel of 101 rows has 17 of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.largekernel.geometry import (
    Geometry,
    dense_lines,
    reach,
    spread,
    taps_of_lines,
)
from nas.networks.largekernel.method import Gradients

_AT_ONCE = 2**20  # entries of gathered rows held at a time
_ROWS = 25  # more rows of taps were never the fastest
Span = tuple[int, int]


class Stripes:
    """Each row of a kernel with few of them, or each column, as a band matrix."""

    name: ClassVar[str] = "stripes"
    takes_cells: ClassVar[bool] = False
    widens: ClassVar[bool] = False

    def cost(self, geometry: Geometry) -> float | None:
        """`rows * W` multiplications a pixel, the rows copied, the bands made once a batch."""
        g = _upright(geometry)
        return None if g.kernel[0] > _ROWS else _cost(g, g.kernel[0])

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """A product for each channel."""
        if _upright(geometry) is not geometry:
            return self.forward(x.mT, weight.mT, geometry.transposed).mT
        return _product(x, weight, geometry, _single(geometry))

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """The input's is the same product with the kernel turned."""
        if _upright(geometry) is not geometry:
            dx, dw = self.backward(grad.mT, x.mT, weight.mT, geometry.transposed, wanted)
            return None if dx is None else dx.mT, None if dw is None else dw.mT
        g = geometry
        dx = dw = None
        if wanted[0]:
            dx = _product(spread(grad, g), weight.flip((-2, -1)), _unstrided(g), _single(g))
        if wanted[1]:
            dw = _correlation(grad, x, g, _single(g))
        return dx, dw


class Pooled:
    """Rows summed in the cells that share weights; the columns' cells are expanded.

    The weight is `(C, 1, cells, cells)`, uncropped.
    """

    name: ClassVar[str] = "pooled"
    takes_cells: ClassVar[bool] = True
    widens: ClassVar[bool] = False

    def cost(self, geometry: Geometry) -> float | None:
        """As stripes with a row for each cell that the map can meet."""
        g = geometry
        if g.cells is None or g.dilation != 1:
            return None
        return _cost(g, len(_met(g)))

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """A product for each channel."""
        first, last, spans = self._kept(geometry)
        lines = self._expanded(weight, geometry)[:, :, first:last]
        return _product(x, lines, geometry, spans)

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """As stripes; the columns' gradient is summed over each cell."""
        g, (first, last, spans) = geometry, self._kept(geometry)
        dx = dw = None
        if wanted[0]:
            turned = self._expanded(weight, g)[:, :, first:last].flip((-2, -1))
            mirrored = [(-high, -low) for low, high in reversed(spans)]
            dx = _product(spread(grad, g), turned, _unstrided(g), mirrored)
        if wanted[1]:
            columns = _correlation(grad, x, g, spans)
            dw = torch.zeros_like(weight)
            dw[:, :, first:last].index_add_(-1, self._columns(g, weight.device), columns)
        return dx, dw

    def _expanded(self, weight: Tensor, geometry: Geometry) -> Tensor:
        """The columns' cells as taps, those that the map can meet."""
        return weight.index_select(-1, self._columns(geometry, weight.device))

    def _columns(self, geometry: Geometry, device: torch.device) -> Tensor:
        """The cell of each column of taps that the map can meet."""
        assert geometry.cells is not None
        taps = len(geometry.cells)
        kept = reach(taps, geometry.size[1])
        start = (taps - kept) // 2
        return torch.tensor(geometry.cells[start : start + kept], device=device)

    def _kept(self, geometry: Geometry) -> tuple[int, int, list[Span]]:
        """First and last cell that the map can meet, and the rows of taps of each."""
        met = _met(geometry)
        return min(met), max(met) + 1, [met[cell] for cell in sorted(met)]


def _cost(geometry: Geometry, rows: int) -> float:
    (height, width), (tall, wide) = geometry.size, geometry.output
    product = 0.05 * rows * width * tall * wide
    copied = 0.5 * rows * tall * width + 3 * height * width
    return product + copied + 3 * rows * width**2 / geometry.batch


def _met(geometry: Geometry) -> dict[int, Span]:
    """Cell -> its first and last row of taps, from the centre, of those that the map can meet."""
    assert geometry.cells is not None
    half = len(geometry.cells) // 2
    kept = reach(len(geometry.cells), geometry.size[0]) // 2
    met: dict[int, Span] = {}
    for row in range(-kept, kept + 1):
        cell = geometry.cells[half + row]
        met[cell] = (met.get(cell, (row, row))[0], row)
    return met


def _single(geometry: Geometry) -> list[Span]:
    """Every row of taps by itself."""
    half = geometry.kernel[0] // 2
    return [(row * geometry.dilation,) * 2 for row in range(-half, half + 1)]


def _upright(geometry: Geometry) -> Geometry:
    """The geometry with the fewer multiplications of itself and its transposed."""
    (tall, wide), (height, width) = geometry.kernel, geometry.size
    return geometry if tall * width <= wide * height else geometry.transposed


def _unstrided(geometry: Geometry) -> Geometry:
    return Geometry(
        geometry.batch, geometry.channels, geometry.size, geometry.kernel, 1, geometry.dilation
    )


def _product(x: Tensor, lines: Tensor, geometry: Geometry, spans: Sequence[Span]) -> Tensor:
    """`x (B, C, H, W)` with kernel rows `lines (C, 1, P, k)`, one for each span of rows."""
    g = geometry
    out = x.new_empty(g.channels, g.batch * g.output[0], g.output[1])
    for part in _parts(g, len(spans)):
        rows = _gathered(x[:, part], g, spans)
        torch.bmm(rows, _matrices(lines[part], g), out=out[part])
    return torch.unflatten(out, 1, (g.batch, g.output[0])).transpose(0, 1)


def _correlation(grad: Tensor, x: Tensor, geometry: Geometry, spans: Sequence[Span]) -> Tensor:
    """The gradient of `_product`'s lines, `(C, 1, P, k)`."""
    g, found = geometry, []
    for part in _parts(g, len(spans)):
        rows = _gathered(x[:, part], g, spans)
        back = grad[:, part].transpose(0, 1).reshape(-1, g.batch * g.output[0], g.output[1])
        matrices = torch.unflatten(torch.bmm(rows.mT, back), 1, (len(spans), g.size[1]))
        if g.stride > 1:
            wide = matrices.new_zeros(*matrices.shape[:-1], g.size[1])
            wide[..., :: g.stride] = matrices
            matrices = wide
        channels = len(matrices)
        flat = matrices.flatten(0, 1).flip(-1)
        line = F.fold(flat, (1, 2 * g.size[1] - 1), (1, g.size[1]))
        line = line.view(channels, 1, len(spans), -1)
        taps = reach(g.kernel[1], g.size[1], g.dilation)
        found.append(taps_of_lines(line, taps, g.dilation))
    return torch.cat(found)


def _parts(geometry: Geometry, rows: int) -> list[slice]:
    """Slices of channels whose gathered rows fit into the cache together."""
    g = geometry
    count = max(1, _AT_ONCE // (g.batch * g.output[0] * rows * g.size[1]))
    return [slice(at, at + count) for at in range(0, g.channels, count)]


def _gathered(x: Tensor, geometry: Geometry, spans: Sequence[Span]) -> Tensor:
    """For each output row the sums of the input rows of each span: `(c, B * h, P * W)`."""
    g, height = geometry, geometry.size[0]
    at = torch.arange(0, height, g.stride, device=x.device)[:, None]
    low, high = (torch.tensor(ends, device=x.device) for ends in zip(*spans, strict=True))
    maps = x.transpose(0, 1)
    if all(first == last for first, last in spans):
        row = at + low
        row = torch.where((row >= 0) & (row < height), row, height)  # the zeros below the map
        rows = F.pad(maps, (0, 0, 0, 1)).index_select(2, row.flatten())
    else:
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        sums = F.pad(maps.cumsum(2, dtype=wide), (0, 0, 1, 0))
        rows = sums.index_select(2, (at + high + 1).clamp(0, height).flatten())
        rows -= sums.index_select(2, (at + low).clamp(0, height).flatten())
        rows = rows.to(x.dtype)
    return rows.reshape(len(maps), g.batch * g.output[0], len(spans) * g.size[1])


def _matrices(lines: Tensor, geometry: Geometry) -> Tensor:
    """Band matrices of kernel rows `(c, 1, P, k)`, one below the other: `(c, P * W, w)`."""
    width = geometry.size[1]
    dense = dense_lines(lines, width, geometry.dilation).reshape(-1, 1, 1, 2 * width - 1)
    bands = F.unfold(dense, (1, width)).flip(-1)[..., :: geometry.stride]
    return bands.reshape(len(lines), -1, bands.shape[-1])
