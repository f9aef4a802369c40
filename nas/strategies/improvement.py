"""Expected hypervolume improvement, exactly, for known and for uncertain objectives.

The region that no front point dominates is cut into boxes; the improvement expected in a box is a
product over objectives (Emmerich et al. 2011; Yang et al. 2019).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas.core.pareto import crowding, non_dominated

Array = npt.NDArray[np.float64]

FRONT = {1: 1, 2: 200, 3: 60}  # front points that improvement is measured against, by objectives
MANY = 20  # the same where there are more objectives


def boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """The region below `reference` that the front does not dominate, as disjoint boxes.

    Everything is minimised. Returns lower and upper corners, `(B, M)`; lower ones may be -inf.

    >>> low, high = boxes(np.array([[1.0, 1.0]]), np.array([2.0, 2.0]))
    >>> high.tolist()
    [[1.0, 2.0], [2.0, 1.0]]
    """
    inside = front[(front < reference).all(axis=1)] if len(front) else front
    if len(reference) == 1:
        top = inside.min(axis=0) if len(inside) else reference
        return np.full((1, 1), -np.inf), top[None, :].astype(np.float64)
    order = inside[np.argsort(inside[:, -1], kind="stable")]
    levels = np.unique(order[:, -1])
    edges = np.concatenate([[-np.inf], levels, [reference[-1]]])
    lows: list[Array] = []
    highs: list[Array] = []
    for bottom, top in pairwise(edges):
        # In the slab (bottom, top) only points at or under its bottom dominate anything.
        below = order[order[:, -1] <= bottom, :-1]
        low, high = boxes(_minimal(below), reference[:-1])
        lows.append(np.column_stack([low, np.full(len(low), bottom)]))
        highs.append(np.column_stack([high, np.full(len(high), top)]))
    if len(reference) == 2:
        return _sorted(np.concatenate(lows), np.concatenate(highs))
    return np.concatenate(lows), np.concatenate(highs)


def expected_improvement(
    mean: Array, deviation: Array, low: Array, high: Array, chunk: int = 4_000_000
) -> Array:
    """Expected hypervolume that each candidate adds: independent normal objectives.

    Args:
        mean: `(N, M)`. deviation: `(N, M)`, 0 where an objective is known.
        low: `(B, M)`, high: `(B, M)`, of `boxes`.
    """
    found = np.zeros(len(mean))
    step = max(1, chunk // max(1, len(low)))
    for start in range(0, len(mean), step):
        part = slice(start, start + step)
        product = np.ones((len(mean[part]), len(low)))
        for m in range(mean.shape[1]):
            product *= _length(mean[part, m, None], deviation[part, m, None], low[:, m], high[:, m])
        found[part] = product.sum(axis=1)
    return found


def front_within(
    points: Array, allowed: npt.NDArray[np.bool_], reference: Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which of the allowed points are not dominated by another; and which of them count."""
    front = np.flatnonzero(allowed)
    front = front[non_dominated(points[front])]
    return front, front[(points[front] < reference).all(axis=1)]


def thinned(front: Array) -> Array:
    """A front of so many points that its boxes can be counted, spread over it."""
    most = FRONT.get(front.shape[1], MANY)
    while len(front) > most:
        front = np.delete(front, int(crowding(front).argmin()), axis=0)
    return front


def _length(mean: Array, deviation: Array, low: Array, high: Array) -> Array:
    """Expected length of (low, high) above a normal value. `(N, 1) and (B,) -> (N, B)`"""
    if not deviation.any():
        known: Array = np.maximum(high - np.maximum(mean, low), 0.0)
        return known
    spread = np.maximum(deviation, 1e-12)
    return np.maximum(_short(mean, spread, high) - _short(mean, spread, low), 0.0)


def _short(mean: Array, deviation: Array, limit: Array) -> Array:
    """E[max(limit - value, 0)] for a normal value; 0 for a limit of -inf."""
    z = (np.where(np.isfinite(limit), limit, 0.0) - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    found: Array = np.where(np.isfinite(limit), deviation * (z * ndtr(z) + density), 0.0)
    return found


def _minimal(points: Array) -> Array:
    """The points that no other one is at or under in every objective."""
    kept: list[Array] = []
    for point in points[np.lexsort(points.T[::-1])] if len(points) else points:
        if not any((other <= point).all() for other in kept):
            kept.append(point)
    return np.array(kept) if kept else points[:0]


def _sorted(low: Array, high: Array) -> tuple[Array, Array]:
    order = np.argsort(high[:, 0], kind="stable")
    return low[order], high[order]
