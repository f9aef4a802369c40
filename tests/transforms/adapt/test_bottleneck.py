from __future__ import annotations

import pytest
import torch
from adapter_networks import adapt, far, inputs, pretrained
from torch import nn
from torch.nn import functional as F

from nas.transforms.adapt.bottleneck import Bottleneck, bottleneck
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.seen import Layer


def seen(layer: nn.Module, shape: tuple) -> Layer:
    return Layer("layer", "channels", "", 1.0, shape, tuple(layer(torch.zeros(shape)).shape))


def test_serial_is_behind_what_the_layer_returns() -> None:
    layer = nn.Linear(6, 8)
    made, _ = bottleneck(layer, seen(layer, (2, 6)), "serial", 3)
    nn.init.normal_(made.behind.up.weight)
    x = torch.randn(4, 6)
    y = layer(x)
    part = made.behind
    by_hand = F.linear(F.relu(F.linear(y, part.down.weight, part.down.bias)), part.up.weight)
    assert far(made(x), y + by_hand) < 1e-6


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Conv2d(6, 8, 3, 2, padding=1),
        nn.Conv2d(6, 8, 2, 2),
        nn.Conv2d(6, 8, 1),
    ],
)
def test_parallel_takes_what_the_layer_takes(layer: nn.Conv2d) -> None:
    made, _ = bottleneck(layer, seen(layer, (2, 6, 8, 8)), "parallel", 3)
    nn.init.normal_(made.parallel.up.weight)
    x = torch.randn(2, 6, 8, 8)
    part = made.parallel
    taken = x[:, :, :: layer.stride[0], :: layer.stride[1]]
    down = F.conv2d(taken, part.down.weight, part.down.bias)
    assert far(made(x), layer(x) + part.up(torch.relu(down))) < 1e-6


def test_parallel_is_refused_where_one_tap_gives_other_sizes() -> None:
    layer = nn.Conv2d(6, 8, 3)
    assert "size" in bottleneck(layer, seen(layer, (2, 6, 8, 8)), "parallel", 3)


@pytest.mark.parametrize("form", ["serial", "parallel"])
def test_it_stays_with_its_cost(form: str) -> None:
    tried = adapt(pretrained("convolutions"), Plan("bottleneck", rank=3, form=form))
    deployed, report = tried.deploy()
    held = [m for m in deployed.modules() if isinstance(m, Bottleneck)]
    assert len(held) == 3
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    assert sum("an activation keeps its adapter" in why for _, why in report.skipped) == 3
