"""Learned augmented residuals: what a block's skip path may do (LAuReL, arXiv 2411.07501)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.networks.parts.layers import conv

BACK = 3  # earlier inputs that "pa" mixes in


class LearnedSkip(nn.Module):
    """Joins skip and branch: `b * (skip + low rank + earlier inputs) + a * branch`.

    It starts as their plain sum.

    Args:
        channels: of both.
        kind: parts joined by `+`: `rw` learns `a` and `b` (twice a softmax), `lr` adds `B A skip`
            of rank `rank`, `pa` adds a learned mix of the last three blocks' inputs.
        rank: of the low-rank part.
    """

    def __init__(self, channels: int, kind: str, rank: int) -> None:
        super().__init__()
        parts = kind.split("+")
        self.logits = nn.Parameter(torch.zeros(2)) if "rw" in parts else None
        self.down = conv(channels, rank) if "lr" in parts else None
        self.up = conv(rank, channels) if "lr" in parts else None
        self.mix = nn.Parameter(torch.zeros(BACK)) if "pa" in parts else None
        self.kept: nn.Parameter | None = None

    def start(self) -> None:
        """The low-rank part begins at zero, and its first matrix at Xavier's scale."""
        if self.down is not None and self.up is not None:
            nn.init.xavier_normal_(self.down.weight)
            nn.init.zeros_(self.up.weight)

    def forward(self, skip: Tensor, branch: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
        """Three times `(B, C, H, W)` to the same shape; `earlier` is of the stage, oldest first."""
        y = skip
        if self.down is not None and self.up is not None:
            y = y + self.up(self.down(skip))
        if self.mix is not None:
            for share, x in zip(self.mix, reversed(earlier), strict=False):
                y = y + share * x
        if self.kept is not None:
            return self.kept * y + branch
        if self.logits is None:
            return y + branch
        a, b = 2 * self.logits.softmax(0)
        z: Tensor = b * y + a * branch
        return z

    def absorb(self) -> Tensor | None:
        """The branch's factor, which from now on is the branch's own; None where it has none."""
        if self.logits is None:
            return None
        a, b = 2 * self.logits.detach().double().softmax(0)
        # a weight like any other: a deployed file gets it again after training
        self.kept, self.logits = nn.Parameter(b.to(self.logits)), None
        factor: Tensor = a
        return factor
