"""Gaussian process regression: relevances fitted by marginal likelihood, predictions with doubt.

Rasmussen and Williams (2006), chapters 2 and 5; float64 throughout.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

from nas.strategies.kernel import squared

Array = npt.NDArray[np.float64]

CONSTANT = 1.0  # prior variance of the mean, of standardised values
JITTER = 1e-8
MEAN = 1.0  # weights are near MEAN / decisions before anything is known,
SPREAD = 0.75  # each of what they are made of within a factor of e to the SPREAD


@dataclass(frozen=True)
class Parameters:
    """A fitted kernel, Matern 3/2 of the weighted distance plus a linear one, and the noise.

    `weights` are those of the features. The linear part carries what each decision does by itself,
    as it mostly is with costs.

    On tables of real networks this shape predicts unseen good ones better than a squared
    exponential, a rational quadratic or a Matern 5/2.
    """

    weights: Array
    signal: float
    linear: float
    noise: float


def fit(features: Array, design: Array, count: int, values: Array, doubt: Array) -> Parameters:
    """The most probable parameters for standardised values.

    Args:
        features: `(N, F)` of `Embedding`. design, count: its weights' parameters, and how many
            of them, the first ones, are of a decision or an extra number.
        values: `(N,)`, of mean 0 and variance 1.
        doubt: `(N,)`, variance that each value has beyond the common noise.
    """
    objective = _Objective(features, design, count, values, doubt)
    starts = [objective.start(shift) for shift in (0.0, -1.5)]
    found = [
        minimize(objective, s, jac=True, method="L-BFGS-B", bounds=objective.bounds(),
                 options={"maxiter": 60})
        for s in starts
    ]  # fmt: skip
    best = min(found, key=lambda r: float(r.fun)).x
    return Parameters(np.exp(design @ best[:-3]), *map(float, np.exp(best[-3:])))


class _Objective:
    """Negative log posterior of the log parameters, with its gradient."""

    def __init__(
        self, features: Array, design: Array, count: int, values: Array, doubt: Array
    ) -> None:
        self._features = features
        self._squares = features**2
        self._design = design
        self._count = count
        self._products = linear(features, features)
        self._values = values
        self._doubt = doubt
        first = np.zeros(design.shape[1])
        first[:count] = np.log(MEAN / max(1, count))
        self._mean = np.concatenate([first, [0.0, 0.0, np.log(1e-2)]])
        self._spread = np.concatenate([np.full(design.shape[1], SPREAD), [1.0, 1.5, 2.0]])

    def start(self, shift: float) -> Array:
        """The prior's mean, with the relevances of all decisions shifted."""
        start = self._mean.copy()
        start[: self._count] += shift
        return start

    def bounds(self) -> list[tuple[float, float]]:
        """Limits within which the covariance stays well conditioned."""
        return (
            [(-12.0, 4.0)] * (len(self._mean) - 3)
            + [(-4.0, 4.0)] * 2
            + [(np.log(1e-6), np.log(2.0))]
        )

    def __call__(self, logs: Array) -> tuple[float, Array]:
        weights = np.exp(self._design @ logs[:-3])
        signal, slope, noise = np.exp(logs[-3:])
        scaled = self._features * np.sqrt(weights)
        steps = np.sqrt(3.0 * squared(scaled, scaled))
        decay = signal * np.exp(-steps)
        kernel = (1.0 + steps) * decay
        covariance = kernel + slope * self._products + CONSTANT
        covariance[np.diag_indices(len(kernel))] += noise + self._doubt + JITTER
        factor = cholesky(covariance, lower=True)
        solved = cho_solve((factor, True), self._values)
        weight = 0.5 * (_inverse(factor) - np.outer(solved, solved))
        gradient = np.empty_like(logs)
        gradient[:-3] = self._design.T @ (-1.5 * self._by_feature(weight * decay) * weights)
        gradient[-3] = (weight * kernel).sum()
        gradient[-2] = slope * (weight * self._products).sum()
        gradient[-1] = noise * np.diag(weight).sum()
        off = (logs - self._mean) / self._spread
        value = 0.5 * self._values @ solved + np.log(np.diag(factor)).sum() + 0.5 * off @ off
        return float(value), gradient + off / self._spread

    def _by_feature(self, pairs: Array) -> Array:
        """For each feature the sum of its squared differences times `pairs`, symmetric."""
        crossed = (self._features * (pairs @ self._features)).sum(axis=0)
        found: Array = 2.0 * (pairs.sum(axis=1) @ self._squares - crossed)
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
        self._scale = np.sqrt(parameters.weights)
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
        own = (features**2).sum(axis=1) / features.shape[1]
        prior = self._parameters.signal + self._parameters.linear * own + CONSTANT
        return mean, np.maximum(prior - (half**2).sum(axis=0), 1e-12)

    def left_out(self) -> Array:
        """Standardised residual of each value, predicted from all the others. `(N,)`"""
        inverse = np.diag(_inverse(self._factor))
        found: Array = self._solved / np.sqrt(inverse)
        return found

    def _kernel(self, ones: Array, others: Array) -> Array:
        # In place: this is where a proposal's time goes
        steps = squared(ones * self._scale, others * self._scale)
        steps *= 3.0
        np.sqrt(steps, out=steps)
        found: Array = np.negative(steps)
        np.exp(found, out=found)
        steps += 1.0
        found *= steps
        found *= self._parameters.signal
        steps = linear(ones, others)
        steps *= self._parameters.linear
        found += steps
        found += CONSTANT
        return found
