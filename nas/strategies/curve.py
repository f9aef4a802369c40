"""What full training is believed to bring, read off a shorter one where there is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas.strategies.belief import Belief, Evidence, Warp
from nas.strategies.candidates import Genes
from nas.strategies.kernel import Embedding
from nas.strategies.observations import Data, Observations

Array = npt.NDArray[np.float64]

ENOUGH = 4  # values of each kind to begin with
STEP = 0.1  # of the better half's spread: how far apart a slope is taken


class Curve:
    """Two Gaussian processes, one of the value at the judged rung, one of the final value after it.

    The first value is a feature of the second one. Where a network reached the rung, its own value
    is taken, and what is left to doubt is small; elsewhere the predicted one, and its doubt
    reaches the final value as far as that follows it. Asked and told as a `Belief` is.

    Source: values of a cheaper level as inputs of the next one, Perdikaris et al. 2017.

    Args:
        genes: of the space.
        past: what is known.
        extras: further features of codes.
        place: which objective.
        beliefs: how many beliefs there are, with these two.
    """

    def __init__(
        self, genes: Genes, past: Observations, extras: Callable[[Array], Array], place: int,
        beliefs: int = 2,
    ) -> None:  # fmt: skip
        self._past = past
        self._extras = extras
        self._place = place
        width = extras(past.code(past.told[:1])).shape[1]
        self._rung = Belief(Embedding(genes, width), warped=True, beliefs=beliefs)
        self._full = Belief(Embedding(genes, width + 1), warped=True, beliefs=beliefs)
        self._reached: dict[bytes, float] = {}

    @property
    def warp(self) -> Warp:
        """The scale of the final value."""
        return self._full.warp

    @property
    def noise(self) -> float:
        """The variance of the final value's noise, warped."""
        return self._full.noise

    def learn(self, count: int) -> bool:
        """Takes in the first so many results; False where they are too few to begin."""
        early, late = self._early(count), self._late(count)
        if min(len(early.values), len(late.values)) < ENOUGH:
            return False
        self._rung.learn(early, count, self._early)
        self._full.learn(late, count, self._late)
        pairs = zip(early.codes, early.values.tolist(), strict=True)
        self._reached = {code.tobytes(): value for code, value in pairs}
        return True

    def imagine(self, codes: Array, extras: Array) -> None:
        """Goes on as if these had been trained to the end and had come out as predicted."""
        value, _, blank = self._at_rung(codes, extras)
        if blank.any():
            self._rung.imagine(codes[blank], extras[blank])
        self._full.imagine(codes, np.column_stack([extras, value]))

    def predict(self, codes: Array, extras: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless final value, warped. `(M,), (M,)`"""
        value, doubt, blank = self._at_rung(codes, extras)
        mean, deviation = self._full.predict(codes, np.column_stack([extras, value]))
        if blank.any():
            step = STEP * self._rung.warp.spread
            beyond = np.column_stack([extras, value + step])[blank]
            slope = (self._full.predict(codes[blank], beyond)[0] - mean[blank]) / step
            deviation[blank] = np.hypot(deviation[blank], slope * doubt[blank])
        return mean, deviation

    def _at_rung(self, codes: Array, extras: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """Values at the rung, their standard deviations, and which of them are predicted."""
        value = np.array([self._reached.get(code.tobytes(), np.nan) for code in codes])
        doubt, blank = np.zeros(len(codes)), np.isnan(value)
        if blank.any():
            mean, deviation = self._rung.predict(codes[blank], extras[blank])
            value[blank] = self._rung.warp.inverse(mean)
            steep = self._rung.warp.slope(value[blank])
            doubt[blank] = np.sqrt(deviation**2 + self._rung.noise) / steep
        return value, doubt, blank

    def _early(self, first: int) -> Evidence:
        return self._evidence(self._past.rung(first))

    def _late(self, first: int) -> Evidence:
        """Final values of those that have one at the rung too, which is their last feature."""
        rung = self._past.rung(first)
        reached = dict(zip(rung.trials.tolist(), rung.values.tolist(), strict=True))
        data = self._past.objective(self._place, first, guessed=False)
        both = np.array([t in reached for t in data.trials.tolist()], dtype=bool)
        found = self._evidence(Data(data.trials[both], data.values[both], data.doubt[both]))
        value = np.array([reached[t] for t in data.trials[both].tolist()])
        extras = np.column_stack([found.extras, value])
        return Evidence(found.codes, extras, found.values, found.doubt)

    def _evidence(self, data: Data) -> Evidence:
        codes = self._past.code(data.trials)
        return Evidence(codes, self._extras(codes), data.values, data.doubt)
