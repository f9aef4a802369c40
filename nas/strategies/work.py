"""How much work a network is: counted for a few, learnt for all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture
from nas.strategies.belief import Belief, Evidence
from nas.strategies.candidates import Genes
from nas.strategies.kernel import Embedding
from nas.strategies.observations import Observations

Array = npt.NDArray[np.float64]
Counts = Callable[[Sequence[Architecture]], Sequence[Mapping[str, float]]]

COUNTED = "macs"
ENOUGH = 4  # counted networks to begin with


class Work:
    """The multiply-accumulates of networks, as logarithms.

    Those of a network that was built are known. Others can be counted, which takes some tenths of
    a second each, so only a few that a proposal is chosen from are; the rest is predicted from
    those that were built. What was counted for one proposal is forgotten for the next one: a
    search that goes on from its history would not know it.

    Args:
        genes: of the space.
        counts: counts some architectures, in order: a mapping with `macs` of each, empty where it
            cannot be built.
    """

    def __init__(self, genes: Genes, counts: Counts) -> None:
        self._genes = genes
        self._counts = counts
        self._belief = Belief(Embedding(genes), warped=False, multiplied=True, in_logarithms=True)
        self._built: dict[bytes, float] = {}
        self._looked: dict[bytes, float] = {}
        self._usual: float | None = None
        self._latest: tuple[Array | None, Array] = None, np.zeros(0)

    def learn(self, past: Observations, count: int) -> None:
        """Takes in the first so many results; where too few were counted all work is alike."""
        self._looked = {}
        self._latest = None, np.zeros(0)
        self._built = {
            code: float(np.log(costs[COUNTED]))
            for code, costs in past.costs.items()
            if costs.get(COUNTED, 0.0) > 0
        }

        def after(first: int) -> Evidence:
            data = past.counted(COUNTED, first)
            above = data.values > 0
            codes = past.code(data.trials[above])
            return Evidence(codes, codes[:, :0], data.values[above], data.doubt[above])

        evidence = after(count)
        self._usual = None
        if len(evidence.values) < ENOUGH:
            return
        self._belief.learn(evidence, count, after)
        self._usual = float(np.median(np.log(evidence.values)))

    def look(self, codes: Array) -> None:
        """Counts these codes, until the next `learn`."""
        self._latest = None, np.zeros(0)
        new = [c for c in codes if c.tobytes() not in self._built | self._looked]
        found = self._counts([self._genes.architecture(code) for code in new]) if new else []
        for code, costs in zip(new, found, strict=True):
            if costs.get(COUNTED, 0.0) > 0:
                self._looked[code.tobytes()] = float(np.log(costs[COUNTED]))

    def __call__(self, codes: Array) -> Array:
        """The logarithm of each code's work, counted where it was. `(N,)`"""
        if codes is self._latest[0]:
            return self._latest[1]
        if self._usual is None:
            return np.zeros(len(codes))
        known = self._built | self._looked
        found = np.array([known.get(code.tobytes(), np.nan) for code in codes])
        blank = np.isnan(found)
        if blank.any():
            found[blank] = self._belief.predict(codes[blank], codes[blank][:, :0])[0]
        self._latest = codes, found
        return found

    def relative(self, codes: Array) -> Array:
        """The work of each, in units of the usual one of this study so far. `(N,)`"""
        found: Array = np.exp(self(codes) - (self._usual or 0.0))
        return found
