"""A network that trains channels last has no map in planes, forward or back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.networks.dualpath import DualPathBlock
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.dilated import DilatedMixer
from nas.networks.mixers.inception import InceptionMixer
from nas.networks.mixers.partial import Partial
from nas.networks.parts.gates import make_gate
from nas.networks.parts.layout import dense, with_dense_gradient
from nas.networks.res2net import ScaledConv

LAST = torch.channels_last


def last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=LAST) and not x.is_contiguous()


LAYERS: dict[str, nn.Module] = {
    "dilated": DilatedMixer(24, 7),
    "inception": InceptionMixer(24, 5, 0.125),
    "partial": Partial(24, 8, nn.Sequential(Depthwise(8, 5), nn.BatchNorm2d(8))),
    "partial of branches": Partial(24, 16, DilatedMixer(16, 5)),
    "scales": ScaledConv(24, 4, 1, 1, True, "relu", "batch"),
    "dual path": DualPathBlock(24, 16, 16, 4, 1, 0, "relu", make_gate("eca", 20, 0.25)),
    **{f"gate {name}": make_gate(name, 24, 0.25) for name in ("se", "eca", "ese", "scse", "gc")},
}


@pytest.mark.parametrize("name", LAYERS)
def test_maps_and_gradients_stay_channels_last(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name].train().to(memory_format=LAST)
    before, after = nn.Conv2d(6, 24, 1).to(memory_format=LAST), nn.GELU()
    x = before(torch.randn(4, 6, 12, 12).contiguous(memory_format=LAST))
    gradients: list[Tensor] = []
    x.register_hook(gradients.append)
    y = after(layer(x))
    assert last(y)
    y.square().sum().backward()
    assert [last(grad) for grad in gradients] == [True]


@pytest.mark.parametrize("function", [with_dense_gradient, lambda x: x])
def test_what_is_one_part_of_a_map_gets_a_gradient_of_its_own(function: Any) -> None:
    seen: list[Tensor] = []
    x = torch.randn(2, 6, 5, 5).contiguous(memory_format=LAST).requires_grad_()
    y = function(x * 2)
    y.register_hook(seen.append)
    torch.cat((x[:, :4], y), 1).contiguous(memory_format=LAST).square().sum().backward()
    assert [last(grad) for grad in seen] == [function is with_dense_gradient]


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (1, 1, 3, 3), (2, 3, 1, 1)])
def test_what_is_whole_is_left_as_it_is(shape: tuple[int, ...]) -> None:
    for layout in (torch.contiguous_format, LAST):
        x = torch.randn(shape).contiguous(memory_format=layout)
        assert dense(x) is x or torch.equal(dense(x), x)
        assert dense(x).stride() == x.stride()


def test_a_part_has_the_same_numbers() -> None:
    x = torch.randn(2, 9, 4, 5).contiguous(memory_format=LAST)
    part = x[:, 2:6]
    assert last(dense(part)) and torch.equal(dense(part), part)
