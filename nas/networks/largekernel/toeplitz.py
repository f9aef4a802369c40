"""Small maps: the convolution as one matrix product a channel.

A map of `H * W` pixels is a vector, and the convolution a doubly Toeplitz matrix of `H * W` rows:
the same for every image, so that the batch makes it a product of matrices, which runs near peak.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.largekernel.geometry import Geometry, dense_lines, spread, taps_of_lines
from nas.networks.largekernel.method import Gradients

_PIXELS = 256  # a larger map's matrix costs more than any other method
_AT_ONCE = 2**20  # entries of matrices held at a time: they stay in the cache


class Toeplitz:
    """The whole map against a matrix made of the kernel."""

    name: ClassVar[str] = "toeplitz"
    takes_cells: ClassVar[bool] = False
    widens: ClassVar[bool] = False

    def cost(self, geometry: Geometry) -> float | None:
        """A product of `HW x HW`, and the matrix made and read once a batch."""
        pixels = geometry.size[0] * geometry.size[1]
        if pixels > _PIXELS:
            return None
        made = 3 * pixels**2 / geometry.batch
        return 0.045 * pixels * geometry.output[0] * geometry.output[1] + made + 2 * pixels

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """A product for each channel."""
        g = geometry
        out = x.new_empty(g.channels, g.batch, g.output[0] * g.output[1])
        for part in _parts(g):
            torch.bmm(_vectors(x[:, part]), _matrix(weight[part], g), out=out[part])
        return torch.unflatten(out.transpose(0, 1), -1, g.output)

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """The product's two gradients; the matrix's is summed along its diagonals."""
        g = geometry
        dx = x.new_empty(g.channels, g.batch, g.size[0] * g.size[1]) if wanted[0] else None
        dw = torch.empty_like(weight) if wanted[1] else None
        for part in _parts(g):
            back = _vectors(grad[:, part])
            if dx is not None:
                torch.bmm(back, _matrix(weight[part], g).mT, out=dx[part])
            if dw is not None:
                dw[part] = _kernel(torch.bmm(_vectors(x[:, part]).mT, back), g)
        found = None if dx is None else torch.unflatten(dx.transpose(0, 1), -1, g.size)
        return found, dw


def _parts(geometry: Geometry) -> list[slice]:
    """Slices of channels whose matrices fit into the cache together."""
    pixels = geometry.size[0] * geometry.size[1]
    count = max(1, _AT_ONCE // pixels**2)
    return [slice(at, at + count) for at in range(0, geometry.channels, count)]


def _vectors(x: Tensor) -> Tensor:
    """`(B, c, H, W)` as `(c, B, H * W)`."""
    return x.flatten(2).transpose(0, 1)


def _matrix(weight: Tensor, geometry: Geometry) -> Tensor:
    """`(c, 1, kh, kw)` as `(c, H * W, h * w)`: entry `(p, i)` is what input p gives to output i."""
    g = geometry
    wide = dense_lines(weight, g.size[1], g.dilation)
    dense = dense_lines(wide.mT, g.size[0], g.dilation).mT
    # column (i', j') of the patches holds tap (p + i', q + j') for input (p, q): the sums become
    # the differences that a convolution has when the columns run backwards
    matrix = F.unfold(dense, g.size).flip(-1)
    if g.stride == 1:
        return matrix
    outputs: Tensor = torch.unflatten(matrix, -1, g.size)[..., :: g.stride, :: g.stride]
    return outputs.flatten(-2)


def _kernel(matrix: Tensor, geometry: Geometry) -> Tensor:
    """The sums along the diagonals of such matrices, `(c, 1, kh, kw)`: `_matrix`'s adjoint."""
    g = geometry
    if g.stride > 1:
        matrix = spread(torch.unflatten(matrix, -1, g.output), g).flatten(-2)
    full = (2 * g.size[0] - 1, 2 * g.size[1] - 1)
    dense = F.fold(matrix.flip(-1), full, g.size)
    rows = taps_of_lines(dense.mT, g.kernel[0], g.dilation).mT
    return taps_of_lines(rows, g.kernel[1], g.dilation)
