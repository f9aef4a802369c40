"""How likely each point belongs to the front, given the doubt of its numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.core.pareto import Array, non_dominated

AT_ONCE = 1 << 22  # numbers drawn together, which bounds the memory of a large front
TOGETHER = 2.0  # standard errors that a shared draw reaches; farther, a latency would be below 0


def membership(
    values: npt.ArrayLike,
    errors: npt.ArrayLike,
    shared: npt.ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Array:
    """Share of redraws in which each point is on the front. `(N, M), (N, M) -> (N,)`.

    Every value is redrawn from a normal distribution with its standard error; values without
    doubt stay. All objectives are minimised.

    Args:
        values: the points.
        errors: standard error of each value, of what is its own.
        shared: standard error that all points have in one draw, such as that of a predictor that
            is wrong for all networks alike; it moves points together, so it decides little.
        draws: how many redraws. seed: of the draws.

    >>> membership([[0.0, 0.0], [1.0, 1.0]], [[0.1, 0.0], [0.1, 0.0]]).tolist()
    [1.0, 0.0]
    >>> membership([[0, 2], [1, 1]], [[0, 0], [0, 0]], [[0.9, 0], [0.9, 0]]).tolist()
    [1.0, 1.0]
    """
    mean = np.asarray(values, dtype=np.float64)
    doubt = np.asarray(errors, dtype=np.float64)
    common = np.zeros_like(mean) if shared is None else np.asarray(shared, dtype=np.float64)
    shares = np.zeros(len(mean))
    if len(mean) == 0:
        return shares
    common = common - common.min(axis=0)  # what moves all by the same changes no order
    open_ = np.flatnonzero(~_hopeless(mean, np.hypot(doubt, common)))
    mean, doubt, common = mean[open_], doubt[open_], common[open_]
    if not doubt.any() and not common.any():
        shares[open_] = non_dominated(mean)
        return shares
    moves = (doubt > 0).any(axis=0) | (common > 0).any(axis=0)
    rng = np.random.default_rng(seed)
    count, size = np.zeros(len(mean)), max(1, AT_ONCE // mean.size)
    for at in range(0, draws, size):
        some = min(size, draws - at)
        drawn = np.tile(mean, (some, 1, 1))
        drawn[:, :, moves] += rng.standard_normal((some, len(mean), moves.sum())) * doubt[:, moves]
        luck = np.clip(rng.standard_normal((some, 1, moves.sum())), -TOGETHER, TOGETHER)
        drawn[:, :, moves] += luck * common[:, moves]
        count += _on_front(drawn, moves)
    shares[open_] = count / draws
    return shares


def _on_front(drawn: Array, moves: npt.NDArray[np.bool_]) -> Array:
    """In how many redraws each point is on the front. `(D, N, M), (M,) -> (N,)`

    Of two objectives of which one is known, all redraws have the points in the same order of it:
    a point is on the front where none before it is as good, and none beside it is better.
    """
    if drawn.shape[2] != 2 or moves.all():
        found = np.zeros(drawn.shape[1])
        for points in drawn:
            found += non_dominated(points)
        return found
    known = int(moves.argmin())
    order = np.argsort(drawn[0, :, known], kind="stable")
    places, doubtful = drawn[0, order, known], drawn[:, order, 1 - known]
    first = np.flatnonzero(np.append(True, places[1:] != places[:-1]))  # of each group of equals
    beside = np.minimum.reduceat(doubtful, first, axis=1)
    before = np.minimum.accumulate(beside, axis=1)
    before = np.concatenate([np.full((len(drawn), 1), np.inf), before[:, :-1]], axis=1)
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(places)))
    kept = (doubtful < before[:, group]) & (doubtful <= beside[:, group])
    counted = np.empty(len(places))
    counted[order] = kept.sum(axis=0)
    return counted


def _hopeless(mean: Array, doubt: Array) -> npt.NDArray[np.bool_]:
    """Which points are dominated whatever is drawn: some point's worst beats their best.

    What they dominate, that point dominates too, so they need not be drawn. Best and worst are six
    standard errors away.
    """
    best, worst = mean - 6 * doubt, mean + 6 * doubt
    front = worst[non_dominated(worst)][:, None]
    beaten: npt.NDArray[np.bool_] = np.any(
        np.all(front <= best, axis=2) & np.any(front < best, axis=2), axis=0
    )
    return beaten


def verdict(probability: float) -> str:
    """A word for a probability of membership.

    >>> verdict(0.97), verdict(0.6), verdict(0.2)
    ('certain', 'likely', 'possible')
    """
    return "certain" if probability >= 0.95 else "likely" if probability >= 0.5 else "possible"
