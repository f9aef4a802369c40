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
        heads: number of heads. head: channels of each.
        block: pixels a side of a block. halo: pixels of the rim.
    """

    index: Tensor

    def __init__(self, width: int, heads: int, head: int, block: int, halo: int) -> None:
        super().__init__()
        self.heads, self.head, self.block, self.halo = heads, head, block, halo
        self.window = block + 2 * halo
        inner = heads * head
        self.q, self.kv = nn.Conv2d(width, inner, 1), nn.Conv2d(width, 2 * inner, 1)
        self.out = nn.Conv2d(inner, width, 1)
        self.rows = nn.Parameter(torch.randn(2 * self.window - 1, head) * head**-0.5)
        self.columns = nn.Parameter(torch.randn(2 * self.window - 1, head) * head**-0.5)
        places, queries = torch.arange(self.window), torch.arange(block)
        distance = places[None, :] - queries[:, None] + self.window - 1
        self.register_buffer("index", distance, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        height, width = x.shape[-2:]
        down, right = -height % self.block, -width % self.block
        x = F.pad(x, (0, right, 0, down)) if down or right else x
        tall, wide = (height + down) // self.block, (width + right) // self.block
        q = self._queries(self.q(x), tall, wide)
        k, v = (self._windows(part) for part in self.kv(x).chunk(2, 1))
        logits = q * self.head**-0.5 @ k.transpose(-2, -1) + self._relative(q)
        y = logits.softmax(-1) @ v  # (B, heads, blocks, block^2, head)
        y = torch.unflatten(torch.unflatten(y, 3, (self.block, self.block)), 2, (tall, wide))
        y = y.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        z: Tensor = self.out(y[..., :height, :width])
        return z

    def _queries(self, q: Tensor, tall: int, wide: int) -> Tensor:
        """`(B, heads, blocks, block^2, head)` of `(B, heads * head, H, W)`."""
        q = torch.unflatten(q, 1, (self.heads, self.head))
        q = torch.unflatten(torch.unflatten(q, 3, (tall, self.block)), 5, (wide, self.block))
        return q.permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5).flatten(2, 3)

    def _windows(self, k: Tensor) -> Tensor:
        """`(B, heads, blocks, window^2, head)` of `(B, heads * head, H, W)`."""
        k = F.unfold(k, self.window, padding=self.halo, stride=self.block)
        k = torch.unflatten(k, 1, (self.heads, self.head, self.window**2))
        return k.permute(0, 1, 4, 3, 2)

    def _relative(self, q: Tensor) -> Tensor:
        """What distances add to the logits `(B, heads, blocks, block^2, window^2)`."""
        q = torch.unflatten(q, 3, (self.block, self.block))  # rows, columns of the block
        byrow = torch.einsum("bhnijd,ikd->bhnijk", q, self.rows[self.index])
        bycolumn = torch.einsum("bhnijd,jkd->bhnijk", q, self.columns[self.index])
        both = byrow[..., :, None] + bycolumn[..., None, :]
        return both.flatten(5, 6).flatten(3, 4)
