"""How much of a score is luck: of seeds, and of a network's own with the images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from nas.core.pareto import Array
from nas.core.trial import Trial

PRIOR = 1.0  # degrees of freedom: how much is believed of a variance before it was seen
LEAST = 0.25  # least share of image noise that is a network's own, however alike all look
STAYS = 0.5  # share of a network's own luck with images that another seed leaves as it is


def luck(trials: Sequence[Trial]) -> Array:
    """Variance of each trained trial's confirmed score that other trials do not share. `(N,)`

    All networks are scored on the same images and mostly fail on the same ones, which moves all
    scores together and changes no order. What is a network's own: the luck of its seeds, seen
    between repeats, and its own luck with the images. The latter is seen between the search's
    images and the confirming ones: a network's scores on the two differ by the noise of both, and
    what all networks share of it is the same in every difference.
    """
    images = np.array([fmean([r.confirm_se**2 for r in t.trained]) for t in trials])
    first = [t.trained[0] for t in trials]
    expected = fmean([r.score_se**2 + r.confirm_se**2 for r in first])
    apart = [r.score - r.confirm for r in first]
    seen = float(np.var(apart, ddof=1)) / expected if len(first) > 1 and expected > 0 else 1.0
    share = (PRIOR + (len(first) - 1) * seen) / (PRIOR + len(first) - 1)
    own = images * min(max(share, LEAST), 1.0)
    again = [squares([r.confirm for r in t.trained]) for t in trials if len(t.trained) > 1]
    degrees = sum(len(t.trained) - 1 for t in trials)
    seeds = (PRIOR * float(own.mean()) + sum(again)) / (PRIOR + degrees)
    runs = np.array([len(t.trained) for t in trials])
    found: Array = seeds / runs + STAYS * own
    return found


def squares(scores: Sequence[float]) -> float:
    """The sum of squares about the mean.

    >>> squares([1.0, 2.0, 3.0])
    2.0
    """
    middle = fmean(scores)  # of a few numbers: an array takes longer
    return sum((score - middle) ** 2 for score in scores)


def believed(values: Array, costs: Array, noise: Array) -> tuple[Array, Array]:
    """Values with their luck taken out, and the variance that is left. `(N,), (N,)`

    The best of many noisy values is lucky, and among many equals some look worse than they are.
    What networks of a like cost came to is a second opinion: a curve through all, and how far
    true values lie from it is the spread that they have beyond the noise. The two are weighed by
    their precision (empirical Bayes, Morris 1983). Few values are left as they are.

    Args:
        values: noisy numbers. costs: `(N, M)`, what a trend may follow. noise: their variances.
    """
    design = _curve(costs)
    degrees = len(values) - design.shape[1]
    if degrees < 2 * design.shape[1]:
        return values, noise
    line = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    typical = float(noise.mean())
    beyond = max(0.0, float(((values - line) ** 2).sum()) / degrees - typical)
    spread = (PRIOR * typical + degrees * beyond) / (PRIOR + degrees)
    leverage = np.einsum("ij,jk,ik->i", design, np.linalg.pinv(design.T @ design), design)
    doubtful = spread + leverage * (spread + typical)
    weight = doubtful / np.maximum(doubtful + noise, 1e-12)
    beside = values - line
    unsure = 2.0 / degrees * ((1.0 - weight) * beside) ** 2  # the spread is itself a guess
    return line + weight * beside, weight * noise + unsure


def _curve(costs: Array) -> Array:
    """A constant, the logarithms of costs, and their squares, each of mean 0 and variance 1."""
    logs = np.log(np.maximum(np.abs(costs), 1e-12))
    logs = (logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-12)
    curve: Array = np.concatenate([np.ones((len(costs), 1)), logs, logs**2], axis=1)
    return curve
