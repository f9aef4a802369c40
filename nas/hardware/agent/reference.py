"""A fixed piece of work that tells how busy the machine is."""

from __future__ import annotations

import time

import numpy as np

from .inputs import INPUTS


class Reference:
    """A fixed piece of one-thread work whose duration tells how busy the machine is.

    A matrix product and a copy, about a tenth of a millisecond: short enough to leave the second
    level cache to the network, long enough to meet a neighbour's time slice.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(INPUTS)
        self.a = rng.standard_normal((128, 128)).astype(np.float32)
        self.b = rng.standard_normal((128, 128)).astype(np.float32)
        self.out = np.empty((128, 128), np.float32)
        self.source = rng.standard_normal(32768).astype(np.float32)
        self.target = np.empty_like(self.source)
        self.series: list[float] = []

    def run(self) -> float:
        """Its duration now, in microseconds; kept in `series`."""
        start = time.perf_counter_ns()
        np.matmul(self.a, self.b, out=self.out)
        np.copyto(self.target, self.source)
        took = (time.perf_counter_ns() - start) / 1e3
        self.series.append(took)
        return took

    @property
    def base(self) -> float:
        """The session's quiet duration: p10 of all runs so far."""
        return float(np.quantile(self.series, 0.1))
