"""How likely each point belongs to the front, given the doubt of its numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.core.pareto import Array, non_dominated

AT_ONCE = 1 << 22  # numbers drawn together, which bounds the memory of a large front
LOOKED_AT = 32  # redraws worked through together: they stay near the processor
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
        own = rng.standard_normal((some, len(mean), moves.sum()))
        luck = rng.standard_normal((some, 1, moves.sum()))
        steps = (own, np.clip(luck, -TOGETHER, TOGETHER))
        for first in range(0, some, LOOKED_AT):
            few = [step[first : first + LOOKED_AT] for step in steps]
            count += _on_front(mean, doubt, common, moves, *few)
    shares[open_] = count / draws
    return shares


def _on_front(
    mean: Array, doubt: Array, common: Array, moves: npt.NDArray[np.bool_], own: Array, luck: Array
) -> Array:
    """In how many redraws each point is on the front. `(N, M) x 3, (M,), (D, N, K), (D, 1, K)`

    `own` and `luck` are how many standard errors each redraw is away, in the K objectives that
    move at all.
    """
    if len(moves) == 2 and not moves.all():
        order = np.argsort(mean[:, ~moves][:, 0], kind="stable")
        drawn = mean[order][:, moves].T + own[:, order, 0] * doubt[order][:, moves].T
        drawn += luck[:, :, 0] * common[order][:, moves].T
        counted = np.empty(len(mean))
        counted[order] = _on_line(mean[order][:, ~moves][:, 0], drawn)
        return counted
    drawn = np.tile(mean, (len(own), 1, 1))
    drawn[:, :, moves] += own * doubt[:, moves]
    drawn[:, :, moves] += luck * common[:, moves]
    found = np.zeros(len(mean))
    for points in drawn:
        found += non_dominated(points)
    return found


def _on_line(places: Array, doubtful: Array) -> Array:
    """In how many redraws each of two objectives' points is on the front. `(N,), (D, N) -> (N,)`

    One objective is known, and the points are in the order of it in all redraws: a point is on the
    front where none before it is as good, and none beside it is better.
    """
    first = np.flatnonzero(np.append(True, places[1:] != places[:-1]))  # of each group of equals
    beside = np.minimum.reduceat(doubtful, first, axis=1)
    before = np.full_like(beside, np.inf)
    np.minimum.accumulate(beside[:, :-1], axis=1, out=before[:, 1:])
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(places)))
    kept = (doubtful < before[:, group]) & (doubtful <= beside[:, group])
    counted: Array = kept.sum(axis=0)
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
