"""ZeroI2V's adapters in both orders: a swapped product of square matrices has the same shape."""

from __future__ import annotations

import pytest
import torch
from adapter_networks import far
from torch import Tensor, nn

from nas.transforms.adapt.linear import LinearAdapter, linear_adapters, merged
from nas.transforms.adapt.seen import Layer


def seen(layer: nn.Module, x: Tensor) -> Layer:
    return Layer("layer", "channels", "", 1.0, tuple(x.shape), tuple(layer(x).shape))


def drawn(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, LinearAdapter):
            for parameter in part.parameters():
                nn.init.normal_(parameter)
    return module.double().eval()


@pytest.mark.parametrize("where", ["before", "behind", "both"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(8, 8), (2, 5, 8)),
        (nn.Linear(8, 12, bias=False), (2, 8)),
        (nn.Conv2d(8, 8, 1), (2, 8, 8, 8)),
        (nn.Conv2d(8, 8, 3, 2, padding=0), (2, 8, 8, 8)),
    ],
)
def test_it_merges_into_the_layer_in_each_order(layer: nn.Module, shape: tuple, where: str) -> None:
    x = torch.randn(shape).double()
    layer = layer.double()
    made, _ = linear_adapters(layer, seen(layer, x), where, 0.25)
    made = drawn(made)
    whole = merged(made)
    assert type(whole) is type(layer)
    assert far(whole(x), made(x)) < 1e-9
    axis = 1 if len(shape) == 4 else -1
    if where == "before":  # by hand
        part = made.before
        moved = x.movedim(axis, -1)
        weights = [part.down.weight.flatten(1), part.up.weight.flatten(1)]
        moved = moved + part.scale * (
            (moved @ weights[0].T + part.down.bias) @ weights[1].T + part.up.bias
        )
        assert far(made(x), layer(moved.movedim(-1, axis))) < 1e-12


def test_the_two_orders_differ() -> None:
    layer = nn.Linear(8, 8).double()
    x = torch.randn(3, 8).double()
    made = drawn(linear_adapters(layer, seen(layer, x), "before", 0.5)[0])
    made.behind, made.before = made.before, None  # the same adapter on the other side
    assert far(merged(made)(x), made(x)) < 1e-9
    made.behind, made.before = None, made.behind
    before = merged(made)(x)
    made.behind, made.before = made.before, None
    assert far(merged(made)(x), before) > 0.1


def test_nothing_is_put_before_padding_or_beside_groups() -> None:
    x = torch.randn(1, 8, 8, 8)
    padded, grouped = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1, groups=2)
    assert "border" in linear_adapters(padded, seen(padded, x), "before", 0.25)
    assert linear_adapters(padded, seen(padded, x), "both", 0.25)[0].before is None
    assert "grouped" in linear_adapters(grouped, seen(grouped, x), "both", 0.25)


def test_a_shift_before_padding_would_be_wrong_at_the_border() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1).double()
    x = torch.randn(1, 8, 8, 8).double()
    free = nn.Conv2d(8, 8, 3).double()
    made = drawn(linear_adapters(free, seen(free, x), "before", 0.25)[0])
    made.layer = layer
    wrong = (merged(made)(x) - made(x)).abs()
    assert float(wrong[..., 1:-1, 1:-1].max()) < 1e-9 and float(wrong.max()) > 5e-2


def test_dropout_is_between_and_in_training_alone() -> None:
    part = LinearAdapter(8, 4, maps=False)
    nn.init.normal_(part.up.weight)
    x = torch.randn(5, 8)
    assert torch.equal(part.eval()(x), part(x))
    assert not torch.equal(part.train()(x), part(x))
