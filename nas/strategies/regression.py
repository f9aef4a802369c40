"""Gaussian process regression: relevances fitted by marginal likelihood, predictions with doubt.

Rasmussen and Williams (2006), chapters 2 and 5; float64 throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

from nas.strategies.kernel import Part, squared

Array = npt.NDArray[np.float64]

CONSTANT = 1.0  # prior variance of the mean, of standardised values
JITTER = 1e-8
MEAN = 1.0  # weights are near MEAN / blocks of features before anything is known,
SPREAD = 0.75  # each of what they are made of within a factor of e to the SPREAD


@dataclass(frozen=True)
class Matern:
    """A Matern 3/2 kernel of the weighted distance in some columns.

    On tables of real networks this shape predicts unseen good ones better than a squared
    exponential, a rational quadratic or a Matern 5/2.
    """

    columns: slice
    weights: Array
    signal: float

    def __call__(self, ones: Array, others: Array) -> Array:
        """Covariances. `(N, F), (M, F) -> (N, M)`"""
        # In place: this is where a proposal's time goes
        scale = np.sqrt(self.weights)
        steps = squared(ones[:, self.columns] * scale, others[:, self.columns] * scale)
        steps *= 3.0
        np.sqrt(steps, out=steps)
        found: Array = np.negative(steps)
        np.exp(found, out=found)
        steps += 1.0
        found *= steps
        found *= self.signal
        return found


@dataclass(frozen=True)
class Parameters:
    """A fitted covariance: kernels, a linear one of the first one's columns, and the noise.

    The linear part carries what each decision does by itself, as it mostly is with costs. Source of
    sums over parts of the features: Duvenaud et al. 2011, additive Gaussian processes.
    """

    kernels: tuple[Matern, ...]
    linear: float
    noise: float


def fit(features: Array, parts: Sequence[Part], values: Array, doubt: Array) -> Parameters:
    """The most probable parameters for standardised values.

    Args:
        features: `(N, F)`. parts: of `Embedding`; each gets a kernel.
        values: `(N,)`, of mean 0 and variance 1.
        doubt: `(N,)`, variance that each value has beyond the common noise.
    """
    objective = _Objective(features, parts, values, doubt)
    starts = [objective.start(shift) for shift in (0.0, -1.5)]
    found = [
        minimize(objective, s, jac=True, method="L-BFGS-B", bounds=objective.bounds(),
                 options={"maxiter": 60})
        for s in starts
    ]  # fmt: skip
    best = min(found, key=lambda r: float(r.fun)).x
    return Parameters(objective.kernels(best), *map(float, np.exp(best[-2:])))


class _Objective:
    """Negative log posterior of the log parameters, with its gradient.

    They are what the weights are made of, part by part; each part's signal; the slope of the linear
    kernel; the noise.
    """

    def __init__(self, features: Array, parts: Sequence[Part], values: Array, doubt: Array) -> None:
        self._parts = parts
        self._features = [features[:, part.columns] for part in parts]
        self._products = linear(self._features[0], self._features[0])
        self._values = values
        self._doubt = doubt
        means, sizes = list[Array](), [part.design.shape[1] for part in parts]
        for part, size in zip(parts, sizes, strict=True):
            means.append(np.where(np.arange(size) < part.count, np.log(MEAN / part.count), 0.0))
        first = np.cumsum([0, *sizes])
        self._of = [slice(*pair) for pair in pairwise(first.tolist())]
        self._mean = np.concatenate([*means, np.zeros(len(parts)), [0.0, np.log(1e-2)]])
        self._spread = np.array([SPREAD] * int(first[-1]) + [1.0] * len(parts) + [1.5, 2.0])

    def start(self, shift: float) -> Array:
        """The prior's mean, with the relevances of all blocks shifted."""
        start = self._mean.copy()
        for part, of in zip(self._parts, self._of, strict=True):
            start[of][: part.count] += shift
        return start

    def bounds(self) -> list[tuple[float, float]]:
        """Limits within which the covariance stays well conditioned."""
        others = len(self._parts) + 1
        made = len(self._mean) - others - 1
        return [(-12.0, 4.0)] * made + [(-4.0, 4.0)] * others + [(np.log(1e-6), np.log(2.0))]

    def kernels(self, logs: Array) -> tuple[Matern, ...]:
        """The kernel of each part."""
        signals = np.exp(logs[-2 - len(self._parts) : -2])
        return tuple(
            Matern(part.columns, np.exp(part.design @ logs[of]), float(signal))
            for part, of, signal in zip(self._parts, self._of, signals, strict=True)
        )

    def __call__(self, logs: Array) -> tuple[float, Array]:
        slope, noise = np.exp(logs[-2:])
        kernels = self.kernels(logs)
        steps = [self._steps(k, f) for k, f in zip(kernels, self._features, strict=True)]
        decays = [k.signal * np.exp(-s) for k, s in zip(kernels, steps, strict=True)]
        covariance = slope * self._products + CONSTANT
        for step, decay in zip(steps, decays, strict=True):
            covariance += (1.0 + step) * decay
        covariance[np.diag_indices(len(covariance))] += noise + self._doubt + JITTER
        factor = cholesky(covariance, lower=True)
        solved = cho_solve((factor, True), self._values)
        weight = 0.5 * (_inverse(factor) - np.outer(solved, solved))
        gradient = np.empty_like(logs)
        for i, part in enumerate(self._parts):
            by_feature = _by_feature(self._features[i], weight * decays[i])
            gradient[self._of[i]] = part.design.T @ (-1.5 * by_feature * kernels[i].weights)
            signal = (weight * (1.0 + steps[i]) * decays[i]).sum()
            gradient[len(logs) - 2 - len(self._parts) + i] = signal
        gradient[-2] = slope * (weight * self._products).sum()
        gradient[-1] = noise * np.diag(weight).sum()
        off = (logs - self._mean) / self._spread
        value = 0.5 * self._values @ solved + np.log(np.diag(factor)).sum() + 0.5 * off @ off
        return float(value), gradient + off / self._spread

    @staticmethod
    def _steps(kernel: Matern, features: Array) -> Array:
        scaled = features * np.sqrt(kernel.weights)
        found: Array = np.sqrt(3.0 * squared(scaled, scaled))
        return found


def _by_feature(features: Array, pairs: Array) -> Array:
    """For each feature the sum of its squared differences times `pairs`, symmetric."""
    crossed = (features * (pairs @ features)).sum(axis=0)
    found: Array = 2.0 * (pairs.sum(axis=1) @ features**2 - crossed)
    return found


def _inverse(factor: Array) -> Array:
    lower, _ = lapack.dpotri(factor, lower=1)
    full: Array = lower + np.tril(lower, -1).T
    return full


def linear(ones: Array, others: Array) -> Array:
    """Mean product of features. `(N, F), (M, F) -> (N, M)`"""
    found: Array = ones @ others.T
    found /= ones.shape[1]
    return found


class Posterior:
    """What is believed after some values.

    Args:
        parameters: the kernel.
        features: `(N, F)`. values: `(N,)`, standardised. doubt: `(N,)`, as in `fit`.
    """

    def __init__(
        self, parameters: Parameters, features: Array, values: Array, doubt: Array
    ) -> None:
        self._parameters = parameters
        self._points, self._values = features, values
        self._certain = self._kernel(features, features)
        self._condition(doubt)

    def doubting(self, doubt: Array) -> Posterior:
        """What is believed after the same values, with another doubt of each."""
        other = copy(self)
        other._condition(doubt)
        return other

    def _condition(self, doubt: Array) -> None:
        covariance = self._certain.copy()
        covariance[np.diag_indices(len(covariance))] += self._parameters.noise + doubt + JITTER
        self._factor = cholesky(covariance, lower=True, overwrite_a=True)
        self._solved = cho_solve((self._factor, True), self._values)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and variance of the noiseless values. `(M, F) -> (M,), (M,)`"""
        cross = self._kernel(self._points, features)
        mean = cross.T @ self._solved
        half = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        first = features[:, self._parameters.kernels[0].columns]
        own = (first**2).sum(axis=1) / first.shape[1]
        signal = sum(kernel.signal for kernel in self._parameters.kernels)
        prior = signal + self._parameters.linear * own + CONSTANT
        return mean, np.maximum(prior - (half**2).sum(axis=0), 1e-12)

    def left_out(self) -> Array:
        """Standardised residual of each value, predicted from all the others. `(N,)`"""
        inverse = np.diag(_inverse(self._factor))
        found: Array = self._solved / np.sqrt(inverse)
        return found

    def _kernel(self, ones: Array, others: Array) -> Array:
        kernels = self._parameters.kernels
        first = kernels[0].columns
        found = linear(ones[:, first], others[:, first])
        found *= self._parameters.linear
        for kernel in kernels:
            found += kernel(ones, others)
        found += CONSTANT
        return found
