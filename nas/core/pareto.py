"""Dominance, fronts, crowding and hypervolume; every array is minimised, `(N, M)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better.

    >>> dominates([1, 2], [2, 2]), dominates([1, 2], [1, 2])
    (True, False)
    """
    pairs = list(zip(one, other, strict=True))  # of two or three numbers: an array takes longer
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def non_dominated(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which points no other point dominates; equal points are all kept. `(N, M) -> (N,)`."""
    array = np.asarray(points, dtype=np.float64)
    if len(array) == 0:
        return np.zeros(0, dtype=bool)
    kept: Any = moocore.is_nondominated(array, keep_weakly=True)
    return np.asarray(kept, dtype=bool)


def ranks(points: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Front number of each point, 0 the best. `(N, M) -> (N,)`.

    >>> ranks([[1, 1], [2, 2], [1, 2], [0, 3]]).tolist()
    [0, 2, 1, 0]
    """
    array = np.asarray(points, dtype=np.float64)
    if len(array) == 0:
        return np.zeros(0, dtype=np.int64)
    result: Any = moocore.pareto_rank(array)
    return np.asarray(result, dtype=np.int64)


def normalise(points: npt.ArrayLike) -> Array:
    """Each column mapped to [0, 1] over its finite range; a constant column becomes 0."""
    array = np.asarray(points, dtype=np.float64)
    low, high = array.min(axis=0), array.max(axis=0)
    unit: Array = (array - low) / np.where(high > low, high - low, 1.0)
    return unit


def crowding(points: npt.ArrayLike) -> Array:
    """Crowding distance within one front, on normalised objectives. `(N, M) -> (N,)`.

    The ends of every objective are infinitely far from their neighbours. Source: NSGA-II (Deb
    et al. 2002).
    """
    array = np.asarray(points, dtype=np.float64)
    distance = np.zeros(len(array))
    if len(array) <= 2:
        return np.full(len(array), np.inf)
    unit = normalise(array)
    for column in unit.T:
        order = np.argsort(column, kind="stable")
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += column[order[2:]] - column[order[:-2]]
    return distance


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume dominated by the points and bounded by `reference`, exactly.

    >>> hypervolume([[1, 2], [2, 1]], [3, 3])
    3.0
    """
    array = np.asarray(points, dtype=np.float64)
    bound = np.asarray(reference, dtype=np.float64)
    inside = array[np.all(array < bound, axis=1)] if len(array) else array
    return float(moocore.hypervolume(inside, ref=bound)) if len(inside) else 0.0
