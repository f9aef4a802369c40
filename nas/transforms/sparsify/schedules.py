"""When weights go: the share of a training at which masks are chosen, and how sparse they are then.

A schedule is a pure function of the share of the training that is over, so that a training that is
resumed finds itself where it was. What the papers give is named; the rest is our choice, made for
brief trainings, and stated in shares rather than steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.core.errors import unknown

NAMES = ("start", "oneshot", "gradual", "acdc", "dst")

HALF = 0.5  # one-shot: when, our choice
RAMP = (0.1, 0.7)  # gradual: from and to, our choice
RAMP_ROUNDS = 30
# AC/DC (Peste et al. 2021), in hundredths as their 100 epochs: dense at first, then phases in turn
# that begin sparse, dense once more, sparse to the end.
WARMUP, PHASE, LAST_DENSE, LAST_SPARSE = 10, 5, 75, 85
DST_ROUNDS, DST_END = 25, 0.75  # rounds of drop and grow; RigL ends them at 75 %
DST_FRACTION = 0.3  # of the connections, in the first round; falls to none as a cosine


@dataclass(frozen=True)
class Schedule:
    """When masks are chosen anew (`round_at`) and how much of the final sparsity they have then.

    `start`: before training. `oneshot`: all at once, half way. `gradual`: the cubic ramp of Zhu and
    Gupta (2018). `acdc`: compressed and decompressed in turn. `dst`: sparse all along, the mask
    moves.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown("schedule of sparsity", self.name, NAMES)

    def round_at(self, over: float) -> int:
        """How often masks have been chosen once this share of the training is over.

        >>> [Schedule("acdc").round_at(s) for s in (0.05, 0.12, 0.17, 0.72, 0.8, 0.9)]
        [0, 1, 2, 13, 14, 15]
        """
        if self.name == "start":
            return 0
        if self.name == "oneshot":
            return int(over >= HALF)
        if self.name == "gradual":
            begin, end = RAMP
            if over < begin:
                return 0
            return 1 + min(RAMP_ROUNDS, _floor(RAMP_ROUNDS * (over - begin) / (end - begin)))
        if self.name == "acdc":
            done = 100 * over
            if done < WARMUP:
                return 0
            last = 1 + (LAST_DENSE - WARMUP) // PHASE  # phases that take turns
            if done < LAST_DENSE:
                return 1 + _floor((done - WARMUP) / PHASE)
            return last + (done >= LAST_SPARSE)
        return min(DST_ROUNDS, _floor(DST_ROUNDS * min(over, DST_END) / DST_END))

    def share_in(self, round: int) -> float:
        """The share of the final sparsity that masks of this round have; 0 is dense.

        >>> [round(Schedule("gradual").share_in(r), 3) for r in (0, 1, 16, 31)]
        [0.0, 0.0, 0.875, 1.0]
        """
        if self.name == "oneshot":
            return float(round > 0)
        if self.name == "gradual":
            return 1 - (1 - max(0, round - 1) / RAMP_ROUNDS) ** 3
        if self.name == "acdc":
            return float(round % 2)
        return 1.0

    @property
    def rounds(self) -> int:
        """The number of the last round."""
        return self.round_at(1.0)

    @property
    def forgets(self) -> bool:
        """Whether SGD's momentum starts anew as masks change.

        AC/DC's own code does so where weights come back; we do where they go as well.
        """
        return self.name == "acdc"

    @property
    def moves(self) -> bool:
        """Whether rounds drop and grow rather than choose by magnitude."""
        return self.name == "dst"


def dropped_in(round: int) -> float:
    """The share of the connections that dynamic sparse training moves in a round: a cosine to zero.

    >>> dropped_in(0), round(dropped_in(DST_ROUNDS), 6)
    (0.3, 0.0)
    """
    return DST_FRACTION / 2 * (1 + math.cos(math.pi * round / DST_ROUNDS))


def _floor(value: float) -> int:
    """The whole part; a share that misses its boundary by rounding alone has reached it."""
    return math.floor(value + 1e-9)
