"""DiffFit: biases, the affine part of norms, and one factor for every residual branch.

Xie et al. 2023 (arXiv 2304.06648). The factor, 1 at first, multiplies what a branch returns; here
it multiplies the weight and bias of the layer that ends the branch, which is the same. For
networks that classify it is BitFit with a scalar LayerScale: the cheapest adapter there is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.transforms.adapt.seen import Norm
from nas.transforms.adapt.weights import Function, adapt


class Factor(nn.Module):
    """The one number that a branch is multiplied by."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1).to(like))


class Multiplied(Function):
    """gamma times a tensor."""

    def __init__(self, factor: Factor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted tensor."""
        return tensor * self.factor.gamma


def affine(layer: nn.Module) -> str | None:
    """Trains a layer's bias, and a norm's weight too; None where it has neither."""
    names = ("weight", "bias") if isinstance(layer, Norm) else ("bias", "in_proj_bias")
    found = [t for n in names if isinstance(t := getattr(layer, n, None), nn.Parameter)]
    for tensor in found:
        tensor.requires_grad_(True)
    if not found:
        return None
    return f"{sum(t.numel() for t in found):,} of its own parameters are trained"


def factor(layer: nn.Module) -> str:
    """Puts the factor on the layer that ends a residual branch, in place."""
    end = layer.out_proj if isinstance(layer, nn.MultiheadAttention) else layer
    weight = end.weight
    assert isinstance(weight, Tensor)
    made = Factor(weight)
    adapt(end, "weight", Multiplied(made))
    if end.bias is not None:
        adapt(end, "bias", Multiplied(made))
    return "its branch has a factor"
