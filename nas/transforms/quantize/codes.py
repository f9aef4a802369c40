"""Whole numbers for weights: steps, codes, fewer bits from more, and the grid weights lie on.

A row is what belongs to one output channel; weights are `(rows, n)`, steps `(rows,)`. Codes are
symmetric, `-(2^(b-1) - 1) .. 2^(b-1) - 1`, so that a norm with a negative factor that is multiplied
into a row only turns its codes' signs. That is our choice: the paper of Double Rounding keeps
`-2^(b-1)` too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
BITS = 8  # what every row is stored in before it loses bits
FEWEST = 3  # weights in a row that can tell a grid from chance
NEAR = 2e-3  # how far from a whole number rounding in float32 leaves a code


def largest(bits: int) -> int:
    """The largest code of so many bits.

    >>> largest(8), largest(4), largest(2)
    (127, 7, 1)
    """
    return int(2 ** (bits - 1)) - 1


def widest_steps(rows: npt.NDArray[Any], bits: int = BITS) -> Array:
    """The steps at which each row's largest weight has the largest code; 1 for a row of zeros."""
    most = np.abs(rows.astype(np.float64)).max(axis=1)
    return np.where(most > 0, most, largest(bits)) / largest(bits)


def codes(rows: npt.NDArray[Any], steps: Array, bits: int = BITS) -> Codes:
    """The nearest codes, ties to the even one."""
    return _clipped(np.rint(rows.astype(np.float64) / steps[:, None]), bits)


def double_rounded(kept: Codes, bits: int, high: int = BITS) -> Codes:
    """Codes of fewer bits from stored ones alone; their steps are `2^(high - bits)` times as long.

    Double Rounding (Huang et al. 2025, arXiv 2502.01199): ties go to the even code, as when they
    were trained.

    >>> double_rounded(np.array([[127, 24, -8, 5]], dtype=np.int8), 4)
    array([[7, 2, 0, 0]], dtype=int8)
    """
    return _clipped(np.rint(kept.astype(np.float64) / 2 ** (high - bits)), bits)


def _clipped(scaled: Array, bits: int) -> Codes:
    found: Codes = np.clip(scaled, -largest(bits), largest(bits)).astype(np.int8)
    return found


def grid(rows: npt.NDArray[Any], bits: int = BITS) -> Array | None:
    """The longest steps of which every weight of a row is a whole multiple, or None.

    Weights that were trained on a grid say themselves what its steps are, and still do once a norm
    was multiplied into their rows or rows were removed. A step twice as long as the learned one is
    found where only every second code is used: the weights it stands for are the same. Rows of one
    or two weights tell nothing.
    """
    if rows.shape[1] < FEWEST:
        return None
    found = np.ones(len(rows))
    for i, row in enumerate(rows.astype(np.float64)):
        most = np.abs(row).max(initial=0.0)
        if most == 0:
            continue
        counts = np.arange(1, largest(bits) + 1)  # the largest weight may be any of these codes
        for part in (row[:FEWEST], row):  # nearly all are told apart by a few weights
            scaled = np.abs(part)[None, :] * (counts / most)[:, None]
            counts = counts[np.abs(scaled - np.rint(scaled)).max(axis=1) <= NEAR]
        if not len(counts):
            return None
        found[i] = most / counts[0]
    return found


def needed(kept: Codes) -> int:
    """The fewest bits that hold every code, at least 2.

    >>> needed(np.array([[7, -3]], dtype=np.int8)), needed(np.array([[8]], dtype=np.int8))
    (4, 5)
    """
    most = int(np.abs(kept.astype(np.int16)).max(initial=0))
    return max(2, most.bit_length() + 1)
