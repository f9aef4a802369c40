"""Filters of several dilations are the dense convolution with zeros between their taps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.patterned import Patterned
from nas.networks.parts.log import Log
from nas.networks.parts.merge import Concatenated, scale_output

PATTERNS = [((1, 1), 3), ((2, 1), 4), ((1, 3), 1)]


def spread(weight: torch.Tensor, pattern: tuple[int, int], box: int) -> torch.Tensor:
    """The dense kernel of side `box`, its taps placed one by one."""
    dense = weight.new_zeros(*weight.shape[:2], box, box)
    tall, wide = weight.shape[-2:]
    for i in range(tall):
        for j in range(wide):
            row = box // 2 + pattern[0] * (i - tall // 2)
            column = box // 2 + pattern[1] * (j - wide // 2)
            dense[..., row, column] = weight[..., i, j]
    return dense


def convolution(kind: str) -> nn.Conv2d | Depthwise:
    torch.manual_seed(0)
    made: nn.Conv2d | Depthwise = {
        "dense": lambda: nn.Conv2d(5, 8, 3, padding=1),
        "strided": lambda: nn.Conv2d(5, 8, 3, stride=2, padding=1, bias=False),
        "channelwise": lambda: nn.Conv2d(8, 8, 5, padding=2, groups=8),
        "ours": lambda: Depthwise(8, 5),
    }[kind]()
    return made.double()


@pytest.mark.parametrize("side", [3, 4, 9])
@pytest.mark.parametrize("kind", ["dense", "strided", "channelwise", "ours"])
def test_each_filter_is_its_own_dilated_convolution(kind: str, side: int) -> None:
    conv = convolution(kind)
    layer = Patterned(conv, PATTERNS).eval()
    groups = 8 if layer.channelwise else 1
    x = torch.randn(2, 8 if groups == 8 else 5, side, side, dtype=torch.float64)
    parts = conv.weight.split([n for _, n in PATTERNS])
    dense = torch.cat([spread(w, p, 13) for w, (p, _) in zip(parts, PATTERNS, strict=True)])
    expected = F.conv2d(x, dense, conv.bias, layer.stride, 6, 1, groups)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    log = Log()
    deployed = layer.deployed("layer", (side, side), log)
    assert isinstance(deployed, Concatenated) and "4 filters 2x1" in log.touched[0]
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=1e-12)
    scale, shift = torch.rand(8, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    assert scale_output(deployed, scale, shift)
    wanted = expected * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    torch.testing.assert_close(deployed(x), wanted, rtol=0, atol=1e-12)


def test_one_pattern_is_one_convolution() -> None:
    deployed = Patterned(convolution("dense"), [((2, 2), 8)]).deployed("layer", (9, 9), Log())
    assert isinstance(deployed, nn.Conv2d) and deployed.dilation == (2, 2)
