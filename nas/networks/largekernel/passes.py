"""A method by name, on weights as the layer has them: expanded and cropped before, put back after.

Also how the fastest method of each pass is found: by a measurement that is taken once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.networks.largekernel.bands import Pooled, Stripes
from nas.networks.largekernel.direct import Direct, Native, Phased, Planar
from nas.networks.largekernel.fourier import Fourier
from nas.networks.largekernel.geometry import Geometry, crop, uncrop
from nas.networks.largekernel.method import Gradients, Method, wide
from nas.networks.largekernel.tiled import Tiled, usable
from nas.networks.largekernel.toeplitz import Toeplitz
from nas.networks.parts.layout import layout_of

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Native(), Direct(), Planar(), Phased(), Toeplitz(), Stripes(), Pooled(), Fourier(), Tiled(),
    )
}  # fmt: skip


def available(device: torch.device, dtype: torch.dtype) -> dict[str, Method]:
    """The methods that run on a device."""
    return {n: m for n, m in METHODS.items() if n != Tiled.name or usable(device, dtype)}


@dataclass(frozen=True)
class Choice:
    """The method of each pass, by name."""

    forward: str
    input: str
    weight: str


def forward(name: str, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The output by one method, in the layout of `x`."""
    method = METHODS[name]
    given = x if method.widens else wide(x)
    y = method.forward(given, *_given(method, wide(weight), geometry))
    return y.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(
    choice: Choice,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    wanted: tuple[bool, bool] = (True, True),
) -> Gradients:
    """The gradients of input and weight, each by its method; by one call where that is the same."""
    if not (METHODS[choice.input].widens and METHODS[choice.weight].widens):
        grad, x = wide(grad), wide(x)
    full, narrow = wide(weight), weight.dtype
    dx = dw = None
    if choice.input == choice.weight:
        dx, dw = _backward(choice.input, grad, x, full, geometry, wanted)
    else:
        if wanted[0]:
            dx, _ = _backward(choice.input, grad, x, full, geometry, (True, False))
        if wanted[1]:
            _, dw = _backward(choice.weight, grad, x, full, geometry, (False, True))
    return None if dx is None else dx.to(narrow), None if dw is None else dw.to(narrow)


def expand(weight: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Cells `(C, 1, s, s)` as taps `(C, 1, K, K)`."""
    index = torch.tensor(cells, device=weight.device)
    return weight.index_select(-2, index).index_select(-1, index)


def collect(dw: Tensor, cells: tuple[int, ...], weight: Tensor) -> Tensor:
    """A gradient of taps summed in cells, in the shape of `weight`: `expand`'s adjoint."""
    index = torch.tensor(cells, device=dw.device)
    rows = dw.new_zeros(*weight.shape[:-1], len(cells)).index_add_(-2, index, dw)
    return torch.zeros_like(weight).index_add_(-1, index, rows)


def _backward(
    name: str,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    wanted: tuple[bool, bool],
) -> Gradients:
    method = METHODS[name]
    dx, dw = method.backward(grad, x, *_given(method, weight, geometry), wanted)
    if dx is not None:
        dx = dx.contiguous(memory_format=layout_of(x))
    if dw is not None and not method.takes_cells:
        dw = uncrop(dw, geometry.kernel)
        if geometry.cells is not None:
            dw = collect(dw, geometry.cells, weight)
    return dx, dw


def _given(method: Method, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    """Weight and geometry as the method takes them."""
    if method.takes_cells:
        return weight, geometry
    if geometry.cells is not None:
        weight = expand(weight, geometry.cells)
    return crop(weight, geometry.size, geometry.dilation), geometry.cropped()
