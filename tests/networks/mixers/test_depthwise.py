"""The depthwise layer: every way of computing it agrees, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas.networks.mixers.depthwise import Depthwise
from nas.networks.parts.log import Log


@pytest.mark.parametrize(("size", "kernel"), [(16, 31), (16, 5), (8, 7), (4, 7), (7, 3)])
def test_training_and_evaluation_agree(size: int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = Depthwise(4, kernel).double()
    x = torch.randn(2, 4, size, size, dtype=torch.float64)
    assert torch.allclose(layer.train()(x), layer.eval()(x), rtol=1e-9, atol=1e-12)


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
