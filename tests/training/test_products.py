"""Convolutions in bfloat16: the same numbers in quicker ways, and layers as they were behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nas.training.products import quick

LAYERS = {
    "pointwise": lambda: nn.Conv2d(6, 10, 1),
    "pointwise without a bias": lambda: nn.Conv2d(6, 10, 1, bias=False),
    "strided pointwise": lambda: nn.Conv2d(6, 10, 1, 2),
    "padded pointwise": lambda: nn.Conv2d(6, 10, 1, padding=1),
    "grouped pointwise": lambda: nn.Conv2d(6, 10, 1, groups=2),
    "strided depthwise": lambda: nn.Conv2d(6, 6, 3, 2, 1, groups=6),
    "strided depthwise, more out": lambda: nn.Conv2d(6, 12, 5, 2, 2, groups=6, bias=False),
    "dense": lambda: nn.Conv2d(6, 10, 3, 1, 1),
}


def gradients(layer: nn.Module, x: Tensor, lower: bool) -> list[Tensor]:
    """Output, gradient of the input and of the parameters."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=lower):
        y = layer(x)
    assert y.dtype == (torch.bfloat16 if lower else torch.float32)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    (y.float() * weights).sum().backward()
    found = [y.float().detach(), x.grad, *(p.grad for p in layer.parameters())]
    return [t for t in found if t is not None]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("last", [True, False])
def test_numbers_are_the_same_to_rounding(name: str, last: bool) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(4, 6, 8, 8).to(memory_format=layout)
    exact = gradients(copy.deepcopy(layer), x, lower=False)
    with quick(layer):
        found = gradients(layer, x, lower=True)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) <= 0.02 * float(theirs.abs().max())


def test_nothing_changes_in_float32() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(LAYERS[name]() for name in ("pointwise",)))
    x = torch.randn(2, 6, 4, 4).to(memory_format=torch.channels_last)
    plain = net(x)
    with quick(net):
        assert torch.equal(net(x), plain)


def test_layers_are_what_they_were_behind_it() -> None:
    class Own(nn.Conv2d):
        """A layer of somebody's own."""

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Own(4, 4, 1), nn.Conv2d(4, 4, 3, 2, 1, groups=4))
    kinds = [type(layer) for layer in net]
    with pytest.raises(RuntimeError, match="stopped"), quick(net):
        assert type(net[1]) is Own
        assert all(isinstance(layer, nn.Conv2d) for layer in net)
        assert type(net[0]) is not nn.Conv2d
        raise RuntimeError("stopped")
    assert [type(layer) for layer in net] == kinds


def test_what_was_given_a_parametrization_meanwhile_keeps_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    with quick(net):
        nn.utils.parametrizations.weight_norm(net[0])
    assert nn.utils.parametrize.is_parametrized(net[0])
    assert net(torch.ones(1, 3, 2, 2)).shape == (1, 4, 2, 2)


def test_maps_of_one_image_less_stay_maps() -> None:
    layer = nn.Conv2d(3, 4, 1)
    with quick(layer), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(3, 5, 5)).shape == (4, 5, 5)
        assert layer(torch.ones(0, 3, 5, 5)).shape == (0, 4, 5, 5)
