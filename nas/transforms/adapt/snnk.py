"""SNNK: an adapter of random features, in which one matrix learns.

Scalable neural network kernels (Sehanobish et al. 2024, arXiv 2310.13225) replace f(W x + b) by an
inner product of features of x and features of W. Here phi(x) = relu(G x) / sqrt(m), with m fixed
Gaussian rows G, orthogonal in blocks: the expected phi(x) . phi(w) is the arc-cosine kernel of
order 1. The adapter is y + v * (phi(y) Psi): Psi `(m, C)`, phi of a layer drawn as a linear layer
is, and v, zero at first, learn. It does not merge. G is drawn from the seed kept beside it and
stored as a buffer, so that it is not lost with the process; a task need not store it again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.transforms.adapt.adapted import Part
from nas.transforms.adapt.beside import Beside, channels_last_axis
from nas.transforms.adapt.seen import Layer


def directions(rows: int, columns: int, seed: int) -> Tensor:
    """Gaussian rows `(rows, columns)`, those of each block of `columns` orthogonal to each other.

    Each row is as long as a Gaussian one would be, so each by itself is exactly Gaussian.
    """
    numbers = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(math.ceil(rows / columns)):
        drawn = torch.randn(columns, columns, generator=numbers, device="cpu")
        basis, triangle = torch.linalg.qr(drawn)
        blocks.append((basis * triangle.diagonal().sign()).T)
    lengths = torch.randn(rows, columns, generator=numbers, device="cpu").norm(dim=1, keepdim=True)
    found: Tensor = torch.cat(blocks)[:rows] * lengths
    return found


def features(x: Tensor, rows: Tensor) -> Tensor:
    """phi(x): `(..., C)` to `(..., m)`, for `rows` `(m, C)`."""
    return torch.relu(F.linear(x, rows)) / math.sqrt(len(rows))


class KernelAdapter(Part):
    """y + v * (phi(y) Psi).

    Args:
        channels: of what it takes and returns. count: m, the number of features.
        maps: whether they are maps `(B, C, H, W)`. seed: what G is drawn from.
    """

    rows: Tensor

    def __init__(self, channels: int, count: int, maps: bool, seed: int) -> None:
        super().__init__()
        self.maps, self.seed = maps, seed
        self.register_buffer("rows", directions(count, channels, seed))
        drawn = nn.Linear(channels, channels, device="cpu").weight.detach()
        self.psi = nn.Parameter(features(drawn, self.rows).T.contiguous())
        self.v = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        last = x.movedim(1, -1) if self.maps else x
        moved = self.v * (features(last, self.rows) @ self.psi)
        return x + (moved.movedim(-1, 1) if self.maps else moved)


def kernel_adapter(
    layer: nn.Module, seen: Layer, count: int, seed: int
) -> tuple[nn.Module, str] | str:
    """The layer with a kernel adapter behind it and what was put there, or why not."""
    if isinstance(layer, nn.MultiheadAttention):
        return "returns more than one tensor"
    maps = not channels_last_axis(layer, seen.output)
    channels = seen.output[1 if maps else -1]
    if count >= channels:
        return f"{count} features of {channels} channels: no fewer parameters than a linear layer"
    part = KernelAdapter(channels, count, maps, seed).to(next(layer.parameters()).device)
    trained = sum(p.numel() for p in part.parameters())
    return Beside(layer, behind=part), f"{count} random features, {trained:,} parameters"
