"""What is believed of one quantity of all architectures, after some noisy values of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.strategies.kernel import Embedding
from nas.strategies.regression import Parameters, Posterior, fit

Array = npt.NDArray[np.float64]

GROWTH = 1.25  # relevances are fitted anew when there are so many times more values
FIT = 200  # values that relevances are fitted to
KEPT = 600  # values that predictions are made from
TOGETHER = 520  # features of all beliefs up to which there is time for so many values;
APIECE = 200  # what else a belief takes counts as so many features
BEYOND = 3.0  # no cost is predicted more than e to this times above all that were seen
FAR = 5.0  # spreads: no warped value is taken for one further above the knee
SHARES = (0.5, 0.4, 0.3, 0.2, 0.1)  # of values that may be taken for no failures
CLIFF = 25.0  # the worst of a share is no failure if so many times as far from the best as its half
FAILED = 5.0  # as a logarithm: spreads above the knee beyond which a value is that of a failure,
MILD = 2.0  # which is taken to be as bad as the worst that is none, or at least so bad
OUTLIER = 2.5  # standardised residuals beyond this count as less certain


@dataclass(frozen=True)
class Warp:
    """A scale on which bad values lie close together: a line up to `knee`, a logarithm above.

    A network that fails to train is bad, whether its error is 60 % or 90 %; what tells the good
    ones apart must fill the scale. The logarithm ends at the `ceiling`, in spreads.
    """

    knee: float
    spread: float
    ceiling: float = np.inf

    def __call__(self, values: Array) -> Array:
        """Values, minimised, on this scale."""
        above = np.log1p(np.maximum(values - self.knee, 0.0) / self.spread)
        found: Array = np.minimum(values, self.knee) + self.spread * np.minimum(above, self.ceiling)
        return found

    def inverse(self, warped: Array) -> Array:
        """Values of places on this scale, none further above the knee than e to the `FAR`.

        >>> float(Warp(1.0, 2.0).inverse(Warp(1.0, 2.0)(np.array([7.0])))[0])
        7.0
        """
        above = np.clip((warped - self.knee) / self.spread, 0.0, FAR)
        found: Array = np.minimum(warped, self.knee) + self.spread * np.expm1(above)
        return found

    def slope(self, values: Array) -> Array:
        """By how much a small difference counts there."""
        found: Array = self.spread / (self.spread + np.maximum(values - self.knee, 0.0))
        return found


class Logarithm(Warp):
    """The scale of a quantity above zero that is told as its logarithm; it has no knee."""

    def __call__(self, values: Array) -> Array:
        """Values on this scale."""
        found: Array = np.log(values)
        return found

    def inverse(self, warped: Array) -> Array:
        """Values of places on this scale."""
        found: Array = np.exp(warped)
        return found

    def slope(self, values: Array) -> Array:
        """By how much a small difference counts there."""
        return 1.0 / values


def usual(values: Array) -> float:
    """The largest of `SHARES` of which the worst is no failure: not far beyond the better ones.

    >>> usual(np.arange(9.0)), usual(np.array([1.0, 2.0, 3.0, 4.0, 1e6, 1e6, 1e6, 1e6, 1e6]))
    (0.5, 0.3)
    """
    best = float(values.min())
    for share in SHARES:
        middle, worst = np.quantile(values, [share / 2, share]) - best
        if worst <= CLIFF * middle:
            return share
    return SHARES[0]


def warp(values: Array) -> Warp:
    """The scale for some values: its knee is their median, its spread their better half's.

    Where half of them are failures, it is that of the rest.
    """
    share = usual(values)
    knee = float(np.quantile(values, share))
    spread = float(knee - np.quantile(values, share / 5))
    spread = spread if spread > 0 else max(float(np.std(values)), 1e-12)
    above = np.log1p(np.maximum(values - knee, 0.0) / spread)
    failed = above > FAILED
    ceiling = max(MILD, float(above[~failed].max())) if failed.any() else np.inf
    return Warp(knee, spread, ceiling)


def milestone(count: int) -> int:
    """The largest number of values, at most `count`, at which relevances are fitted.

    >>> milestone(9), milestone(10), milestone(100)
    (9, 9, 94)
    """
    reached, following = min(count, 4), 4
    while following <= count:
        reached, following = following, int(np.ceil(following * GROWTH))
    return reached


@dataclass(frozen=True)
class Evidence:
    """Values of one quantity in the order they came in: `(N, decisions)`, `(N, extras)`, `(N,)`.

    `doubt` is the variance that a value has beyond the common noise.
    """

    codes: Array
    extras: Array
    values: Array
    doubt: Array

    def part(self, kept: npt.NDArray[np.int64]) -> Evidence:
        """Some of them."""
        return Evidence(
            self.codes[kept], self.extras[kept], self.values[kept], self.doubt[kept]
        )  # fmt: skip


class Belief:
    """A Gaussian process over codes and extra numbers, kept up with values in their order.

    Its relevances follow from the evidence at a milestone alone, so two instances given the same
    history believe the same, whatever they were asked in between.

    Args:
        embedding: of the codes and the extra numbers.
        warped: whether bad values are drawn together (`warp`).
        multiplied: whether decisions multiply the quantity, as they do a cost: as long as all of
            its values are above zero their logarithms are learnt, and it is told in its own unit.
        in_logarithms: whether it is told as a logarithm as long as it is learnt as one.
        beliefs: how many there are of different quantities, which share the time of a proposal:
            where it would be too long, each learns from fewer values.
    """

    def __init__(
        self,
        embedding: Embedding,
        warped: bool,
        multiplied: bool = False,
        in_logarithms: bool = False,
        beliefs: int = 1,
    ) -> None:
        self._embedding = embedding
        self._warped = warped
        self._multiplied = multiplied
        self._in_logarithms = in_logarithms
        self._logarithmic = False
        self._fitted_at = 0
        wanted = beliefs * (sum(len(part.design) for part in embedding.parts) + APIECE)
        self._share = min(1.0, float(np.sqrt(TOGETHER / wanted)))  # time grows with the square
        self.warp = Warp(np.inf, 1.0)
        self.noise = 0.0
        self._doubt: Array = np.zeros(0)

    def learn(self, evidence: Evidence, count: int, past: Callable[[int], Evidence]) -> None:
        """Takes in all evidence so far.

        Args:
            evidence: all there is.
            count: how many results it is from.
            past: the evidence there was after so many results.
        """
        if self._fitted_at != milestone(count):
            earlier = past(milestone(count))
            enough = len(earlier.values) >= 2
            self._fit(earlier if enough else evidence)
            self._fitted_at = milestone(count) if enough else 0
        if self._warped:
            self.warp = warp(evidence.values)
        kept = evidence.part(_kept(evidence.values, int(self._share * KEPT)))
        self._scaled(kept)
        self._posterior = self._after(self._features, self._values, self._doubt)
        surprise = self._posterior.left_out() / OUTLIER  # one below is welcome, and believed
        if (surprise > 1.0).any():
            self._doubt = self._doubt + self._parameters.noise * (
                np.maximum(surprise, 1.0) ** 2 - 1
            )
            self._posterior = self._posterior.doubting(self._doubt)

    def imagine(self, codes: Array, extras: Array) -> None:
        """Goes on as if these had been tried and had come out as predicted."""
        features = self._embed(codes, extras)
        mean, _ = self._posterior.predict(features)
        self._posterior = self._after(
            np.concatenate([self._features, features]),
            np.concatenate([self._values, mean]),
            np.concatenate([self._doubt, np.zeros(len(mean))]),
        )

    def predict(self, codes: Array, extras: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless quantity, warped. `(M,), (M,)`"""
        mean, variance = self._posterior.predict(self._embed(codes, extras))
        mean, deviation = self._centre + self._width * mean, self._width * np.sqrt(variance)
        if not self._logarithmic:
            return mean, deviation
        mean = np.minimum(mean, self._most)
        if self._in_logarithms:
            return mean, deviation
        return np.exp(mean), np.exp(mean) * deviation

    def _fit(self, evidence: Evidence) -> None:
        """Chooses the relevances, and the scale of the extra numbers."""
        self._middle = evidence.extras.mean(axis=0)
        self._spread = np.maximum(evidence.extras.std(axis=0), 1e-12)
        if self._warped:
            self.warp = warp(evidence.values)
        self._scaled(evidence.part(_kept(evidence.values, int(self._share * FIT))))
        self._parameters: Parameters = fit(
            self._features, self._embedding.parts, self._values, self._doubt
        )

    def _scaled(self, evidence: Evidence) -> None:
        """Sets features and standardised values."""
        values = evidence.values
        self._logarithmic = self._multiplied and bool((values > 0).all())
        warped, steep = values, np.ones(len(values))
        if self._in_logarithms:
            self.warp = (Logarithm if self._logarithmic else Warp)(np.inf, 1.0)
        if self._warped:
            warped, steep = self.warp(values), self.warp.slope(values)
        elif self._logarithmic:
            warped, steep = np.log(values), 1.0 / values
            self._most = float(warped.max()) + BEYOND
        self._centre, self._width = float(warped.mean()), max(float(warped.std()), 1e-12)
        self._features = self._embed(evidence.codes, evidence.extras)
        self._values = (warped - self._centre) / self._width
        self._doubt = evidence.doubt * (steep / self._width) ** 2

    def _after(self, features: Array, values: Array, doubt: Array) -> Posterior:
        posterior = Posterior(self._parameters, features, values, doubt)
        self.noise = self._parameters.noise * self._width**2
        if self._logarithmic and not self._in_logarithms:
            self.noise *= float(np.exp(2.0 * self._centre))
        return posterior

    def _embed(self, codes: Array, extras: Array) -> Array:
        return self._embedding(codes, (extras - self._middle) / self._spread)


def _kept(values: Array, most: int) -> npt.NDArray[np.int64]:
    """Which values are used where there are too many: the best ones and the latest, in order."""
    if len(values) <= most:
        return np.arange(len(values))
    best = np.argsort(values, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(len(values)), best)[-(most - len(best)) :]
    return np.union1d(best, rest)
