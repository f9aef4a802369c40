"""Networks light enough for the limits, while too little is known to believe anything of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from nas.core.space import SearchSpace
from nas.strategies.candidates import Genes, apart, unseen
from nas.strategies.observations import Observations
from nas.strategies.work import Work

Array = npt.NDArray[np.float64]

TOLD = 3  # trials that must have ended before limits are looked at
DRAWN = 120  # codes drawn from the space, most of them small, and as many moved from the best
SHORT = 8  # of them counted
BEST = 5  # trials that break the limits least


class Lighter:
    """Proposes what has no more work than the networks that kept all limits on costs.

    Under a tight limit most networks of a space are too slow. None of them is trained, so nothing
    is learnt of the score, and draws from the whole space would go on like that. Work is what a
    latency, a size and a memory have in common, and can be counted before a network is built.

    Args:
        limits: the constraints, by their text, that more work makes worse.
    """

    def __init__(
        self, space: SearchSpace, genes: Genes, work: Work, limits: Collection[str]
    ) -> None:
        self._space, self._genes, self._work = space, genes, work
        self._limits = frozenset(limits)

    def propose(
        self, past: Observations, asked: Sequence[Array], seen: set[bytes],
        rng: np.random.Generator,
    ) -> Array | None:  # fmt: skip
        """A code; None unless at least half of what was tried breaks a limit."""
        excess = past.excess(self._limits)
        kept = [t for t, most in excess.items() if most <= 0]
        if len(excess) < TOLD or 2 * len(kept) > len(excess):
            return None
        self._work.learn(past, len(past.told))
        pool = unseen(self._pool(past, excess, rng), seen)
        if not len(pool):
            return None
        known = self._work(past.code(kept or list(excess)))
        bound = known.max() if kept else known.min() - math.log(2)  # or half of the least
        work = self._work(pool)
        within = work <= bound
        light = pool[within] if within.any() else pool[work.argsort()[:SHORT]]
        tried = np.array([*past.codes.values(), *asked])
        short = light[np.argsort(-apart(light, tried), kind="stable")[:SHORT]]
        self._work.look(short)
        exact = self._work(short)
        within = exact <= bound
        found: Array = short[int(within.argmax() if within.any() else exact.argmin())]
        return found

    def _pool(
        self, past: Observations, excess: dict[int, float], rng: np.random.Generator
    ) -> Array:
        """Small draws, and neighbours of those that break the limits least."""
        drawn = [self._space.sample_sized(rng, size**2) for size in rng.random(DRAWN)]
        best = past.code(sorted(excess, key=lambda t: excess[t])[:BEST])
        some = best[rng.integers(len(best), size=DRAWN)]
        moved = self._genes.move(some, rng, rng.integers(1, 4, size=DRAWN))
        return np.concatenate([np.array([self._genes.code(a) for a in drawn]), moved])
