"""The Triton kernels under Triton's interpreter, where Triton is installed; no GPU is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nas.networks.largekernel import passes, tiled
from nas.networks.largekernel.convolution import convolve
from nas.networks.largekernel.geometry import Geometry
from nas.networks.largekernel.passes import Choice

CPU = torch.device("cpu")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # read when the kernels are first imported
    pytest.importorskip("triton")
    tiled.usable.cache_clear()
    yield
    tiled.usable.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 3e-6), (torch.float16, 2e-3)])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [
        ((8, 9), (15, 17), 1, 1),
        ((7, 5), (13, 5), 2, 1),
        ((11, 6), (5, 9), 1, 2),
        ((5, 70), (3, 31), 1, 1),  # more than one tile of columns
    ],
)
@pytest.mark.usefixtures("interpreted")
def test_the_kernels_are_the_convolution(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int,
    dtype: torch.dtype, allowed: float,
) -> None:  # fmt: skip
    assert tiled.usable(CPU, dtype)
    g = Geometry(2, 2, size, kernel, stride, dilation)
    x, weight = torch.randn(2, 2, *size).to(dtype), torch.randn(2, 1, *kernel).to(dtype)
    grad = torch.randn(2, 2, *g.output).to(dtype)
    right = [x.double().requires_grad_(), weight.double().requires_grad_()]
    y = convolve(*right, None, stride, dilation)  # type: ignore[call-arg]
    should = (y, *torch.autograd.grad(y, right, grad.double()))
    method, same = passes.METHODS["triton"], Choice("triton", "triton", "triton")
    cut, cropped = passes._given(method, weight, g)
    with torch.no_grad():
        found = (method.forward(x, cut, cropped), *passes.backward(same, grad, x, weight, g))
    for got, want in zip(found, should, strict=True):
        assert got is not None and got.shape == want.shape
        assert (got.double() - want).abs().max() <= allowed * want.abs().max()


def test_without_a_gpu_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    tiled.usable.cache_clear()
    assert "triton" not in passes.available(CPU, torch.float32)
    assert not tiled.usable(CPU, torch.float64)
    tiled.usable.cache_clear()
