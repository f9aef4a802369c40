"""LoRA: a product of two thin matrices beside a frozen weight.

W' = W + s B A, B zero at first. Hu et al. 2021 (arXiv 2106.09685) with s = alpha / rank; rsLoRA
(Kalajdzievski 2023, arXiv 2312.03732) with s = alpha / sqrt(rank). For a convolution of k x k taps
the authors' package multiplies (k out, k rank) by (k rank, k in) and reads the product as the
weight: its rank is up to k * rank, not rank. Of a fused weight of query, key and value each slice
has matrices of its own, and a slice that is not adapted has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.transforms.adapt.weights import Function, adapt

SLICES = ("query", "key", "value")


def scaling(alpha: float, rank: int, stable: bool) -> float:
    """What the product is multiplied by; `stable` is rsLoRA's.

    >>> scaling(8, 16, stable=False), scaling(8, 16, stable=True)
    (0.5, 2.0)
    """
    return alpha / (math.sqrt(rank) if stable else rank)


class LowRank(Function):
    """W + s B A for a linear layer or a convolution, grouped or not.

    Args:
        weight: `(out, in)` or `(out, in / groups, kh, kw)`.
        rank: of a linear layer; times the taps along the longer side of a convolution. At most half
            of the smaller side, else the two matrices hold more than the weight.
        scale: s.
        drop: share of the ranks that are left out of each training step, the rest scaled up
            (Dyn-Adapter's sparsity in the forward pass; our reading of it for merged adapters).
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, drop: float = 0.0) -> None:
        super().__init__()
        self.scale, self.drop = scale, drop
        tall, wide = (1, 1) if weight.dim() == 2 else tuple(weight.shape[2:])
        rows, columns = weight.shape[0] * tall, weight.shape[1] * wide
        self.rank = least(rank * max(tall, wide), rows, columns)
        self.down = nn.Parameter(weight.new_empty(self.rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, self.rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def delta(self) -> Tensor:
        """`(rows, columns)`: s B A."""
        down: Tensor = self.down
        if self.training and self.drop:
            live = torch.rand(self.rank, 1, device=down.device) >= self.drop
            down = down * live / (1 - self.drop)
        return self.scale * self.up @ down

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted weight."""
        return tensor + self.delta().to(tensor.dtype).reshape(tensor.shape)


class Sliced(Function):
    """W + s B A in some of the equal slices of a fused weight's rows.

    Args:
        weight: `(3 D, D)`: query, key and value, one below the other.
        slices: which of the three are adapted.
    """

    def __init__(
        self, weight: Tensor, slices: Sequence[int], rank: int, scale: float, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.slices = tuple(slices)
        self.size = len(weight) // 3
        parts = [LowRank(weight[: self.size], rank, scale, drop) for _ in self.slices]
        self.parts = nn.ModuleList(parts)

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted weight."""
        rows = list(torch.split(tensor, self.size))
        for place, part in zip(self.slices, self.parts, strict=True):
            rows[place] = part(rows[place])
        return torch.cat(rows)


def least(rank: int, rows: int, columns: int) -> int:
    """A rank with which two thin matrices hold no more than the whole one; at least 1.

    >>> least(16, 64, 64), least(16, 9, 64), least(4, 1, 49)
    (16, 4, 1)
    """
    return max(1, min(rank, min(rows, columns) // 2))


def low_rank(
    layer: nn.Module, parts: Sequence[str], rank: int, scale: float, drop: float = 0.0
) -> str:
    """Puts LoRA on a layer's weight, in place, and says what was put there.

    Args:
        parts: for a layer that holds query, key and value, which of them; empty for any other.
    """
    fused = isinstance(layer, nn.MultiheadAttention)
    name = "in_proj_weight" if fused else "weight"
    weight = getattr(layer, name)
    if parts:
        function: Function = Sliced(weight, [SLICES.index(p) for p in parts], rank, scale, drop)
    else:
        function = LowRank(weight, rank, scale, drop)
    adapt(layer, name, function)
    count = sum(p.numel() for p in function.parameters())
    which = f" on {' and '.join(parts)}" if parts else ""
    held = next(m.rank for m in function.modules() if isinstance(m, LowRank))
    return f"LoRA of rank {held}{which}, {count:,} parameters"
