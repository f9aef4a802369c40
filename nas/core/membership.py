"""How likely each point belongs to the front, given the doubt of its numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.core.pareto import Array, non_dominated


def membership(
    values: npt.ArrayLike, errors: npt.ArrayLike, draws: int = 1000, seed: int = 0
) -> Array:
    """Share of redraws in which each point is on the front. `(N, M), (N, M) -> (N,)`.

    Every value is redrawn from a normal distribution with its standard error; values without
    doubt stay. All objectives are minimised.

    >>> membership([[0.0, 0.0], [1.0, 1.0]], [[0.1, 0.0], [0.1, 0.0]]).tolist()
    [1.0, 0.0]
    """
    mean = np.asarray(values, dtype=np.float64)
    if len(mean) == 0:
        return np.zeros(0)
    noise = np.random.default_rng(seed).standard_normal((draws, *mean.shape))
    drawn = mean + noise * np.asarray(errors, dtype=np.float64)
    counts: Array = np.sum([non_dominated(points) for points in drawn], axis=0) / draws
    return counts


def verdict(probability: float) -> str:
    """A word for a probability of membership.

    >>> verdict(0.97), verdict(0.6), verdict(0.2)
    ('certain', 'likely', 'possible')
    """
    return "certain" if probability >= 0.95 else "likely" if probability >= 0.5 else "possible"
