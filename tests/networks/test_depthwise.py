"""The depthwise layer: every way of computing it agrees, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.networks.depthwise import (
    Depthwise,
    convolve,
    convolve_by_fft,
    crop,
    depthwise,
    fft_is_faster,
)
from nas.networks.log import Log

odd = st.integers(0, 12).map(lambda n: 2 * n + 1)
side = st.integers(1, 11)


@settings(max_examples=60, deadline=None)
@given(height=side, width=side, tall=odd, wide=odd)
def test_the_transform_is_the_convolution(height: int, width: int, tall: int, wide: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, tall, wide, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    out = torch.randn(2, 3, height, width, dtype=torch.float64)
    results = []
    for way in (convolve, convolve_by_fft):
        y = way(x, weight, bias)
        results.append((y, *torch.autograd.grad((y * out).sum(), (x, weight, bias))))
    for wanted, got in zip(*results, strict=True):
        assert torch.allclose(wanted, got, rtol=1e-9, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(height=side, width=side, tall=odd, wide=odd, dilation=st.integers(1, 3))
def test_cutting_changes_neither_output_nor_gradient(
    height: int, width: int, tall: int, wide: int, dilation: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    weight = torch.randn(3, 1, tall, wide, dtype=torch.float64, requires_grad=True)
    whole = convolve(x, weight, None, dilation)
    part = convolve(x, crop(weight, (height, width), dilation), None, dilation)
    assert torch.allclose(whole, part, rtol=1e-9, atol=1e-12)
    for y in (whole, part):
        (grad,) = torch.autograd.grad(y.square().sum(), weight)
        dead = torch.ones_like(weight)
        crop(dead, (height, width), dilation).zero_()
        assert (grad * dead).abs().max() == 0
    assert crop(weight, (height, width)).shape[-1] <= 2 * width - 1


@pytest.mark.parametrize(("size", "kernel"), [(16, 31), (16, 5), (8, 7), (4, 7), (7, 3)])
def test_training_and_evaluation_agree(size: int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = Depthwise(4, kernel).double()
    x = torch.randn(2, 4, size, size, dtype=torch.float64)
    assert torch.allclose(layer.train()(x), layer.eval()(x), rtol=1e-9, atol=1e-12)


def test_the_transform_is_used_where_it_was_measured_to_be_faster() -> None:
    assert fft_is_faster((4, 1, 31, 31), (16, 16))
    assert fft_is_faster((4, 1, 31, 5), (16, 16))
    assert fft_is_faster((4, 1, 9, 9), (8, 8))
    assert not fft_is_faster((4, 1, 7, 7), (4, 4))
    assert not fft_is_faster((4, 1, 3, 3), (32, 32))
    seen = []
    real = torch.fft.rfft2
    x, weight = torch.randn(1, 2, 16, 16), torch.randn(2, 1, 15, 15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.fft, "rfft2", lambda *a, **k: seen.append(1) or real(*a, **k))
        depthwise(x, weight, None, training=True)
        assert len(seen) == 2
        depthwise(x, weight, None, training=False)
    assert len(seen) == 2


def test_against_torch_on_even_and_rectangular_maps() -> None:
    torch.manual_seed(0)
    layer = Depthwise(6, (5, 9), dilation=2)
    x = torch.randn(2, 6, 12, 7)
    wanted = F.conv2d(x, layer.weight, layer.bias, padding=(4, 8), dilation=2, groups=6)
    assert torch.equal(layer.eval()(x), wanted)


def test_the_deployed_layer_is_a_plain_convolution_cut_to_its_map() -> None:
    torch.manual_seed(0)
    layer, log = Depthwise(4, (47, 3)).double().eval(), Log()
    conv = layer.deployed("mixer", (14, 9), log)
    assert type(conv) is torch.nn.Conv2d
    assert conv.kernel_size == (27, 3)
    assert log.touched == ["mixer: 47x3 kernel cut to 27x3 on a 14x9 map"]
    x = torch.randn(2, 4, 14, 9, dtype=torch.float64)
    assert torch.allclose(conv(x), layer(x), rtol=1e-12)
