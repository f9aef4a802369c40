"""Attention of blocks of pixels to themselves and a rim around them (HaloNet, arXiv 2103.12731)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HaloAttention(nn.Module):
    """Each block of `block x block` pixels attends to a window of `block + 2 * halo` a side.

    Learned vectors for the distance along rows and along columns are added to what a query looks
    for. What lies outside the map is zeros, keys and values alike, as in the paper's code; a map
    that blocks do not divide is filled up with zeros.

    Args:
        width: channels of the map.
        heads: number of heads. head: channels of each query and key.
        block: pixels a side of a block. halo: pixels of the rim.
        value: channels of each head's values; as `head` where None.
        stride: pixels between the queries, which divides `block`.
        whole: with biases, and a 1x1 convolution behind; else a bottleneck's own layers follow, and
            the output has `heads * value` channels.
    """

    index: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        head: int,
        block: int,
        halo: int,
        value: int | None = None,
        stride: int = 1,
        whole: bool = True,
    ) -> None:
        super().__init__()
        if block % stride:
            raise ValueError(f"a block of {block} pixels has no queries {stride} pixels apart")
        self.heads, self.head, self.block, self.halo = heads, head, block, halo
        self.window, self.stride = block + 2 * halo, stride
        self.inner, values = heads * head, heads * (value or head)
        self.q = nn.Conv2d(width, self.inner, 1, stride, bias=whole)
        self.kv = nn.Conv2d(width, self.inner + values, 1, bias=whole)
        self.out: nn.Module = nn.Conv2d(values, width, 1) if whole else nn.Identity()
        self.rows = nn.Parameter(torch.randn(2 * self.window - 1, head) * head**-0.5)
        self.columns = nn.Parameter(torch.randn(2 * self.window - 1, head) * head**-0.5)
        places, queries = torch.arange(self.window), torch.arange(0, block, stride)
        distance = places[None, :] - queries[:, None] + self.window - 1
        self.register_buffer("index", distance, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape, or smaller by the stride, with `value`s' channels."""
        height, width = x.shape[-2:]
        down, right = -height % self.block, -width % self.block
        x = F.pad(x, (0, right, 0, down)) if down or right else x
        tall, wide = (height + down) // self.block, (width + right) // self.block
        q = self._queries(self.q(x), tall, wide)
        kv = self.kv(x)
        k, v = (self._windows(part) for part in (kv[:, : self.inner], kv[:, self.inner :]))
        logits = q * self.head**-0.5 @ k.transpose(-2, -1) + self._relative(q)
        y = logits.softmax(-1) @ v  # (B, heads, blocks, queries, value)
        side = self.block // self.stride
        y = torch.unflatten(torch.unflatten(y, 3, (side, side)), 2, (tall, wide))
        y = y.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        z: Tensor = self.out(y[..., : -(-height // self.stride), : -(-width // self.stride)])
        return z

    def _queries(self, q: Tensor, tall: int, wide: int) -> Tensor:
        """`(B, heads, blocks, queries, head)` of `(B, heads * head, H, W)`."""
        side = self.block // self.stride
        q = torch.unflatten(q, 1, (self.heads, self.head))
        q = torch.unflatten(torch.unflatten(q, 3, (tall, side)), 5, (wide, side))
        return q.permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5).flatten(2, 3)

    def _windows(self, k: Tensor) -> Tensor:
        """`(B, heads, blocks, window^2, channels)` of `(B, heads * channels, H, W)`."""
        k = F.unfold(k, self.window, padding=self.halo, stride=self.block)
        k = torch.unflatten(k, 1, (self.heads, -1, self.window**2))
        return k.permute(0, 1, 4, 3, 2)

    def _relative(self, q: Tensor) -> Tensor:
        """What distances add to the logits `(B, heads, blocks, queries, window^2)`."""
        side = self.block // self.stride
        q = torch.unflatten(q, 3, (side, side))  # rows, columns of the block
        rows, columns = self.index[:, None], self.index[None]  # of the queries, to the window
        byrow = _taken(q @ self.rows.t(), rows.expand(side, side, -1))
        bycolumn = _taken(q @ self.columns.t(), columns.expand(side, side, -1))
        both = byrow[..., :, None] + bycolumn[..., None, :]
        return both.flatten(5, 6).flatten(3, 4)


def _taken(logits: Tensor, index: Tensor) -> Tensor:
    """Of the logits of all distances (..., h, w, 2 window - 1) those of each query's window."""
    return logits.gather(-1, index.expand(*logits.shape[:-1], -1))
