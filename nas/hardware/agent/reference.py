"""A fixed piece of work that tells how busy the machine is."""

from __future__ import annotations

import time

import numpy as np

from .inputs import INPUTS

COUNT, ROUNDS, AGAIN = 4096, 16, 6


class Reference:
    """A fixed piece of one-thread work whose duration tells how busy the machine is.

    Exponentials of a vector that fits into the first cache, some 40 microseconds: a guest on the
    core's other thread takes vector units, and this needs little else. A few rounds that are not
    timed come first, so that it takes the same behind every network, whatever that left in the
    caches, and what is quiet can be said once for a machine (`benchmarks/neighbours.py` compares
    it with other work).

    Args:
        usual: what it takes on this machine when quiet, in microseconds, as earlier sessions know
            it: a session that is slow from its beginning to its end cannot tell by itself.
    """

    def __init__(self, usual: float | None = None) -> None:
        self.source = np.random.default_rng(INPUTS).standard_normal(COUNT).astype(np.float32)
        self.target = np.empty_like(self.source)
        self.usual = float("inf") if usual is None else usual
        self.series: list[float] = []

    def run(self) -> float:
        """Its duration now, in microseconds; kept in `series`."""
        self._work(AGAIN)
        start = time.perf_counter_ns()
        self._work(ROUNDS)
        took = (time.perf_counter_ns() - start) / 1e3
        self.series.append(took)
        return took

    def _work(self, rounds: int) -> None:
        for _ in range(rounds):
            np.exp(self.source, out=self.target)

    @property
    def own(self) -> float:
        """What it takes in this session when quiet: p10 of all runs so far."""
        return float(np.quantile(self.series, 0.1))

    @property
    def base(self) -> float:
        """What it takes when quiet, of all that is known."""
        return min(self.own, self.usual)
