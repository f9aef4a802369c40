"""ZeroI2V: linear adapters before and behind the layers of a frozen network, merged into them.

A(x) = x + s (W2 (W1 x + b1) + b2), W2 and b2 zero at first, and in training dropout between (Li et
al. 2024, arXiv 2310.01324). With M = I + s W2 W1 and c = s (W2 b1 + b2): before a layer
W' = W M, b' = W c + b; behind it W' = M W, b' = M b + c. Where M is square both orders have the
same shapes, so a swapped one would go unnoticed but for its test. A shift before a convolution that
pads with zeros would reach the padding after merging and not before it: such layers get none.
"""

from __future__ import annotations

from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas.networks.parts.merge import is_plain, own_kind
from nas.transforms.adapt.adapted import Part
from nas.transforms.adapt.beside import Beside, channels_last_axis, matrix, zeroed
from nas.transforms.adapt.seen import Layer, Matrix

DROP = 0.1
FIXED = "some of its weights are fixed at zero, and would not stay so"
Where = Literal["before", "behind", "both"]


class LinearAdapter(Part):
    """x + s (W2 (W1 x + b1) + b2).

    Args:
        channels: of what it takes and returns. hidden: rows of W1.
        maps: whether they are maps `(B, C, H, W)`; else the last axis is the channels'.
        scale: s.
    """

    def __init__(self, channels: int, hidden: int, maps: bool, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.down = matrix(channels, hidden, maps)
        self.drop = nn.Dropout(DROP)
        self.up = zeroed(matrix(hidden, channels, maps))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        moved: Tensor = self.up(self.drop(self.down(x)))
        return x + self.scale * moved

    def affine(self) -> tuple[Tensor, Tensor]:
        """M `(C, C)` and c `(C,)`, float64."""
        down, up = (layer.weight.detach().double().flatten(1) for layer in (self.down, self.up))
        assert self.down.bias is not None and self.up.bias is not None
        inner, outer = self.down.bias.detach().double(), self.up.bias.detach().double()
        identity = torch.eye(len(up), dtype=torch.float64, device=up.device)
        return identity + self.scale * up @ down, self.scale * (up @ inner + outer)


def merged(beside: Beside) -> nn.Module | None:
    """The layer with the linear adapters before and behind it multiplied in; None for others."""
    before, layer, behind = beside.before, beside.layer, beside.behind
    linear = all(p is None or isinstance(p, LinearAdapter) for p in (before, behind))
    if beside.parallel is not None or not linear or not isinstance(layer, Matrix):
        return None
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    if isinstance(before, LinearAdapter):
        matrix, shift = before.affine()
        bias = bias + torch.einsum("oi...,i->o", weight, shift)
        weight = torch.einsum("oj...,ji->oi...", weight, matrix)
    if isinstance(behind, LinearAdapter):
        matrix, shift = behind.affine()
        weight = torch.einsum("oj,j...->o...", matrix, weight)
        bias = matrix @ bias + shift
    made = copy(layer)
    made._parameters = dict(layer._parameters)
    made.weight = nn.Parameter(weight.to(layer.weight))
    made.bias = nn.Parameter(bias.to(layer.weight))
    return made


def linear_adapters(
    layer: nn.Module, seen: Layer, where: Where, ratio: float
) -> tuple[nn.Module, str] | str:
    """The layer between linear adapters and what was put there, or why there are none.

    Args:
        ratio: hidden channels as a share of the layer's own; a quarter in the paper.
    """
    if not isinstance(layer, Matrix):
        return f"a linear adapter does not merge into {type(layer).__name__}"
    if not is_plain(layer):
        return f"{own_kind(layer)}: a linear adapter may not merge"
    if parametrize.is_parametrized(layer):
        return FIXED
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "a grouped convolution cannot take in what mixes its channels"
    maps = not channels_last_axis(layer, seen.output)
    taken, returned = layer.weight.shape[1], layer.weight.shape[0]
    padded = isinstance(layer, nn.Conv2d) and layer.padding not in (0, (0, 0), "valid")
    if padded and where == "before":
        return "a shift before padding does not merge at the border"
    made: dict[str, LinearAdapter] = {}
    if where != "behind" and not padded:
        made["before"] = LinearAdapter(taken, max(1, round(taken * ratio)), maps)
    if where != "before":
        made["behind"] = LinearAdapter(returned, max(1, round(returned * ratio)), maps)
    count = sum(p.numel() for part in made.values() for p in part.parameters())
    said = f"linear adapters {' and '.join(made)} it, {count:,} parameters"
    return Beside(layer, **made), said
