"""SSF: what a layer returns is scaled and shifted, channel by channel.

y = gamma * x + beta after every layer and norm (Lian et al. 2022, arXiv 2210.08823). On the weights
of the layer before: W' = diag(gamma) W, b' = gamma b + beta, and the same for a norm's. Nothing is
put before a layer: a shift before a padded convolution does not merge at the border.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.transforms.adapt.weights import Function, adapt

SPREAD = 0.02


class Factors(nn.Module):
    """gamma and beta of one layer, shared by what becomes of its weight and of its bias.

    Drawn about 1 and 0 with a deviation of 0.02 as in the authors' code: not exactly nothing.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        count = like.shape[0]
        self.gamma = nn.Parameter(1 + SPREAD * torch.randn(count).to(like))
        self.beta = nn.Parameter(SPREAD * torch.randn(count).to(like))


class ScaledWeight(Function):
    """gamma W."""

    def __init__(self, factors: Factors) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted weight."""
        return tensor * self.factors.gamma.view(-1, *[1] * (tensor.dim() - 1))


class ShiftedBias(Function):
    """gamma b + beta."""

    def __init__(self, factors: Factors) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted bias."""
        return tensor * self.factors.gamma + self.factors.beta


def scale_shift(layer: nn.Module) -> str:
    """Puts SSF on a linear layer, a convolution, a norm, or both projections of attention."""
    names = [(layer, "weight", "bias")]
    if isinstance(layer, nn.MultiheadAttention):
        names = [(layer, "in_proj_weight", "in_proj_bias"), (layer.out_proj, "weight", "bias")]
    count = 0
    for holder, weight, bias in names:
        factors = Factors(getattr(holder, weight))
        count += 2 * len(factors.gamma)
        adapt(holder, weight, ScaledWeight(factors))
        adapt(holder, bias, ShiftedBias(factors))
    return f"scaled and shifted, {count:,} parameters"
