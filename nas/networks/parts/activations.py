"""Activations by name."""

from __future__ import annotations

from torch import nn

from nas.core.errors import unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "mish": nn.Mish,  # x tanh(softplus(x)), arXiv 1908.08681
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
}


def make_activation(name: str) -> nn.Module:
    """An activation by name. Raises: NasError for another name."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
