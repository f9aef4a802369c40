"""Weights fixed at zero: a random mask on every matrix and convolution (SLaK, PeLK).

The published networks move their masks during training; these stay where they were drawn. The
density is the same in every layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class FixedMask(nn.Module):
    """Keeps `round(density * count)` entries of a weight, drawn evenly, and zeroes the others."""

    mask: Tensor

    def __init__(self, weight: Tensor, density: float) -> None:
        super().__init__()
        self.live = round(density * weight.numel())
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[torch.randperm(weight.numel(), device=weight.device)[: self.live]] = True
        self.register_buffer("mask", mask.view_as(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its dead entries at zero; they get no gradient."""
        return weight * self.mask


def sparsify(module: nn.Module, density: float) -> None:
    """Masks every two- and four-dimensional weight of `module`, in place; nothing at density 1."""
    if density == 1:
        return
    for layer in list(module.modules()):
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() in (2, 4):
            parametrize.register_parametrization(layer, "weight", FixedMask(weight, density))


MADE = "its weight is made of other tensors, as by weight_norm"


def is_made(layer: nn.Module) -> bool:
    """Whether somebody else makes a layer's tensors of others, as torch's `weight_norm` does."""
    found = layer.parametrizations.values() if parametrize.is_parametrized(layer) else ()  # type: ignore[operator]
    return any(not type(one).__module__.startswith("nas.") for stack in found for one in stack)


def settle(module: nn.Module) -> list[str]:
    """Removes every parametrization of `module`, in place, leaving its value; names the layers.

    Torch's own removal would delete the property from a class that copies of the layer share.
    """
    settled = []
    for name, layer in module.named_modules():
        if parametrize.is_parametrized(layer):
            values = {t: getattr(layer, t).detach() for t in layer.parametrizations}
            del layer.parametrizations
            layer.__class__ = type(layer).__bases__[0]
            for tensor, value in values.items():
                layer.register_parameter(tensor, nn.Parameter(value))
            settled.append(name)
    return settled
