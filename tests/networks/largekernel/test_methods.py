"""Every method against the framework's convolution in float64, with the errors that are allowed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.networks.largekernel import direct
from nas.networks.largekernel.convolution import convolve
from nas.networks.largekernel.geometry import Geometry, crop
from nas.networks.largekernel.passes import Choice, available, backward, forward
from nas.networks.mixers.peripheral import cells

# largest error of any entry, as a share of the largest entry
ALLOWED = {
    torch.float64: 1e-13,
    torch.float32: 3e-6,
    torch.float16: 2e-3,  # one rounding of the result is 5e-4
    torch.bfloat16: 1.2e-2,  # one rounding of the result is 4e-3
}
# (batch, size, kernel, stride, dilation, core of shared cells)
SHAPES = [
    (1, (8, 8), (7, 7), 1, 1, None),
    (4, (8, 9), (13, 31), 1, 1, None),  # a kernel larger than the map, in one direction more
    (2, (15, 16), (31, 31), 1, 1, None),
    (5, (7, 5), (51, 5), 2, 1, None),
    (3, (11, 6), (5, 9), 1, 2, None),
    (2, (12, 13), (7, 5), 2, 3, None),
    (3, (9, 16), (1, 11), 1, 1, None),
    (2, (10, 9), (31, 31), 1, 1, 2),
    (2, (14, 15), (31, 31), 2, 1, 1),
    (1, (1, 1), (3, 3), 1, 1, None),
]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def wanted(
    x: Tensor, weight: Tensor, grad: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor]:
    g = geometry
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    y = convolve(x, weight, None, g.stride, g.dilation, g.cells)
    return y.detach(), *torch.autograd.grad(y, (x, weight), grad.double())


def compare(geometry: Geometry, dtype: torch.dtype, layout: torch.memory_format) -> None:
    g = geometry
    lines = g.kernel if g.cells is None else (max(g.cells) + 1,) * 2
    x = torch.randn(g.batch, g.channels, *g.size).to(dtype)
    weight = torch.randn(g.channels, 1, *lines).to(dtype)
    grad = torch.randn(g.batch, g.channels, *g.output).to(dtype)
    right = wanted(x, weight, grad, g)
    x, grad = (part.contiguous(memory_format=layout) for part in (x, grad))
    with torch.no_grad():
        for name, method in available(x.device, dtype).items():
            if method.cost(g if method.takes_cells else g.cropped()) is None:
                continue
            found = (
                forward(name, x, weight, g),
                *backward(Choice(name, name, name), grad, x, weight, g),
            )
            for what, got, should in zip(("y", "dx", "dw"), found, right, strict=True):
                assert got is not None and got.dtype == dtype and got.shape == should.shape
                error = (got.double() - should).abs().max() / should.abs().max()
                assert error <= ALLOWED[dtype], (name, what, float(error))


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_method_is_the_convolution(
    shape: tuple[int, tuple[int, int], tuple[int, int], int, int, int | None], dtype: torch.dtype
) -> None:
    batch, size, kernel, stride, dilation, core = shape
    shared = None if core is None else tuple(cells(kernel[0], core))
    for layout in LAYOUTS:
        compare(Geometry(batch, 5, size, kernel, stride, dilation, shared), dtype, layout)


@pytest.mark.parametrize(("size", "kernel"), [(8, 13), (16, 31)])
def test_a_batch_of_128(size: int, kernel: int) -> None:
    compare(Geometry(128, 3, (size, size), (kernel, kernel)), torch.float32, torch.channels_last)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2])
def test_more_images_than_the_cache_holds(
    monkeypatch: pytest.MonkeyPatch, stride: int, layout: torch.memory_format
) -> None:
    monkeypatch.setattr(direct, "_CACHED", 5 * 12 * 13 * 3)  # three images, the last share two
    compare(Geometry(8, 5, (12, 13), (7, 9), stride), torch.float32, layout)
    compare(Geometry(8, 5, (12, 13), (5, 3), 1, dilation=2), torch.float64, layout)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    tall=st.integers(0, 12),
    wide=st.integers(0, 12),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 3),
)
def test_any_shape(
    batch: int, height: int, width: int, tall: int, wide: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(0)
    kernel = (2 * tall + 1, 2 * wide + 1)
    g = Geometry(batch, 2, (height, width), kernel, stride, dilation)
    compare(g, torch.float64, torch.contiguous_format)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 11), width=st.integers(1, 11), tall=st.integers(0, 12),
    wide=st.integers(0, 12), dilation=st.integers(1, 3),
)  # fmt: skip
def test_cutting_changes_neither_output_nor_gradient(
    height: int, width: int, tall: int, wide: int, dilation: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    weight = torch.randn(3, 1, 2 * tall + 1, 2 * wide + 1, dtype=torch.float64, requires_grad=True)
    whole = convolve(x, weight, None, 1, dilation)
    part = convolve(x, crop(weight, (height, width), dilation), None, 1, dilation)
    assert torch.allclose(whole, part, rtol=1e-9, atol=1e-12)
    for y in (whole, part):
        (grad,) = torch.autograd.grad(y.square().sum(), weight)
        dead = torch.ones_like(weight)
        crop(dead, (height, width), dilation).zero_()
        assert (grad * dead).abs().max() == 0
    assert crop(weight, (height, width)).shape[-1] <= 2 * width - 1
