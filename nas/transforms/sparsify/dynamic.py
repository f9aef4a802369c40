"""Dynamic sparse training: drop the smallest connections, grow others, never change their number.

RigL (Evci et al. 2020) grows where the gradient is largest. DST-EE (Huang et al. 2023) adds to the
gradient what has seldom been tried: an acquisition `|g| + c ln(t) / (N + e)`, with t the round and
N the number of rounds in which a connection was active. The paper's constants and units could not
be read; ours: `c` is in units of the layer's median gradient, so that one value suits all layers,
and `e` is 1. At c = 0 it is RigL.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas.transforms.sparsify.patterns import largest

EPSILON = 1.0


def acquisition(gradient: Tensor, active: Tensor, round: int, exploration: float) -> Tensor:
    """How much a connection is worth growing.

    Args:
        gradient: of the loss, for every entry, masked or not.
        active: int32, in how many rounds each entry was active so far.
        round: which round this is, from 1.
        exploration: c.
    """
    size = gradient.abs()
    if exploration == 0:
        return size
    return size + exploration * size.median() * math.log(round) / (active + EPSILON)


def moved(weight: Tensor, mask: Tensor, scores: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """The mask after a round, and what is new in it; as many entries are active as before.

    Drops the `fraction` of the active entries with the smallest weights and grows as many of all
    that are not active then, by score. What was dropped may grow again at once, as in RigL.
    """
    count = min(int(fraction * int(mask.sum())), int((~mask).sum()))
    held = torch.where(mask, weight.abs(), torch.tensor(-1.0, dtype=weight.dtype))
    kept = largest(held, int(mask.sum()) - count)
    open_to = torch.where(kept, torch.tensor(-1.0, dtype=scores.dtype), scores)
    grown = largest(open_to, count)
    return kept | grown, grown & ~mask
