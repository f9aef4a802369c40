"""One number in, how much of each layer stays out.

Layers are given by their sizes and, where an allocation looks at them, their weights' magnitudes or
what removing them does to the output. All is numpy, none of it knows networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BUCKETS = 4096
FLOOR = 0.1  # no layer falls below this part of the common density: our choice


def uniform(sizes: Sequence[int], density: float) -> Array:
    """The same density everywhere."""
    return np.full(len(sizes), density)


def erk(shapes: Sequence[Sequence[int]], density: float) -> Array:
    """Densities in proportion to the sum of a weight's axes over their product (Evci et al. 2020).

    What would exceed one stays dense, and the rest is scaled until the whole has `density`.

    >>> np.round(erk([(10, 10), (100, 100)], 0.2), 3).tolist()
    [1.0, 0.192]
    """
    sizes = np.array([np.prod(s) for s in shapes], dtype=float)
    raw = np.array([sum(s) / np.prod(s) for s in shapes])
    return _capped(raw, sizes, density)


def water_filling(sizes: Sequence[int], density: float) -> Array:
    """Densities `min(1, level / size)`: every layer has as many weights left, the small ones all.

    They maximise the sum of the logarithms of densities at a given total. PreCrop (2022) takes
    densities from a proxy of the network at initialisation; its own solution is not published in
    what we could read, so this is our choice for it: no layer becomes a bottleneck.

    >>> water_filling([10, 100, 1000], 0.1).round(3).tolist()
    [1.0, 0.505, 0.05]
    """
    known = np.array(sizes, dtype=float)
    return _capped(1 / known, known, density)


def _capped(raw: Array, sizes: Array, density: float) -> Array:
    """`min(1, scale * raw)` with the scale at which the whole has `density`."""
    full = np.zeros(len(sizes), dtype=bool)
    while not full.all():
        scale = (density * sizes.sum() - sizes[full].sum()) / (raw * sizes)[~full].sum()
        over = ~full & (scale * raw > 1)
        if not over.any():
            return np.where(full, 1.0, scale * raw)
        full |= over
    return np.ones(len(sizes))


def by_magnitude(magnitudes: Sequence[Array], density: float) -> Array:
    """The densities that one threshold for all layers leaves.

    Magnitudes are taken as they are. A layer keeps at least a tenth of the common density, because
    one threshold removes small layers whole at high sparsity.
    """
    sizes = np.array([len(m) for m in magnitudes])
    total = round(density * sizes.sum())
    floor = np.ceil(FLOOR * density * sizes - 1e-9).astype(int)
    ranked = np.argsort(-np.concatenate(magnitudes), kind="stable")
    owner = np.repeat(np.arange(len(sizes)), sizes)
    low, high = 0, len(ranked)
    while low < high:  # the most that may be ranked in, with the floors on top
        middle = (low + high + 1) // 2
        kept = np.bincount(owner[ranked[:middle]], minlength=len(sizes))
        low, high = (middle, high) if np.maximum(kept, floor).sum() <= total else (low, middle - 1)
    kept = np.bincount(owner[ranked[:low]], minlength=len(sizes))
    densities: Array = np.maximum(kept, floor) / sizes
    return densities


def counts(densities: Array, sizes: Sequence[int], density: float) -> list[int]:
    """Whole numbers of weights to keep, together `round(density * all)`, at least one a layer."""
    known = np.array(sizes)
    exact = densities * known
    kept = np.clip(np.floor(exact), 1, known).astype(int)
    missing = round(density * known.sum()) - int(kept.sum())
    while missing < 0 and (kept > 1).any():  # the ones that layers keep at least were not planned
        kept[np.argmax(np.where(kept > 1, kept - exact, -np.inf))] -= 1
        missing += 1
    order = np.argsort(-(exact - kept), kind="stable")
    while missing > 0 and (kept < known).any():
        for i in order:
            if missing > 0 and kept[i] < known[i]:
                kept[i] += 1
                missing -= 1
    return [int(k) for k in kept]


def in_proportion(sizes: Sequence[int], count: int) -> list[int]:
    """`count` in shares of these sizes, in whole numbers: by largest remainder.

    >>> in_proportion([24, 8], 16), in_proportion([3, 3, 2], 4)
    ([12, 4], [2, 1, 1])
    """
    exact = np.array(sizes) * count / sum(sizes)
    kept = np.floor(exact + 1e-9).astype(int)
    kept[np.argsort(kept - exact, kind="stable")[: count - int(kept.sum())]] += 1
    return [int(k) for k in kept]


def rate_distortion(
    costs: Sequence[Array], distortions: Sequence[Array], budget: float, buckets: int = BUCKETS
) -> list[int]:
    """The option of each layer for which the sum of distortions is least within the budget.

    Layer-adaptive pruning by rate and distortion (Xu et al. 2023): distortions of the output are
    taken to add up, and a dynamic program walks the layers over the budget spent so far. Costs are
    counted in `buckets` equal parts of the budget, rounded up, so that it is never exceeded (their
    tables, one column for each surviving weight, take 10 GB for a ResNet-50). Whole costs within a
    budget below `buckets` are counted exactly.

    Args:
        costs, distortions: for each layer, one number for each option.
        budget: at least the sum of the cheapest options.

    >>> rate_distortion([np.array([4., 1.])] * 2, [np.array([0., 5.]), np.array([0., 3.])], 5.)
    [0, 1]
    """
    whole = all(float(c).is_integer() for cost in costs for c in cost)
    if whole and budget < buckets:
        buckets = budget = math.floor(budget)
    unit = budget / buckets
    best = np.zeros(buckets + 1)  # least distortion with at most so much spent
    taken = []
    for cost, distortion in zip(costs, distortions, strict=True):
        spent = np.ceil(cost / unit - 1e-9).astype(int)
        rows = np.full((len(cost), buckets + 1), np.inf)
        for option, (units, harm) in enumerate(zip(spent, distortion, strict=True)):
            if units <= buckets:
                rows[option, units:] = best[: buckets + 1 - units] + harm
        taken.append((rows.argmin(axis=0), spent))
        best = rows.min(axis=0)
    if not np.isfinite(best[-1]):  # rounding up made the cheapest options dearer than the budget
        return [int(np.argmin(cost)) for cost in costs]
    left, chosen = buckets, []
    for options, spent in reversed(taken):
        option = int(options[left])
        chosen.append(option)
        left -= int(spent[option])
    return chosen[::-1]


def filled(
    chosen: Sequence[int], costs: Sequence[Array], distortions: Sequence[Array], budget: float
) -> Array:
    """Costs that spend the whole budget, beginning with `chosen` options.

    What a grid of options leaves over goes where it lowers the distortion most for each weight,
    up to that layer's next option, the last one in part.
    """
    spent = np.array([c[i] for c, i in zip(costs, chosen, strict=True)], dtype=float)
    steps = []
    for layer, (cost, distortion) in enumerate(zip(costs, distortions, strict=True)):
        order = np.argsort(cost, kind="stable")
        place = int(np.flatnonzero(order == chosen[layer])[0])
        for before, after in zip(order[place:], order[place + 1 :], strict=False):
            more = cost[after] - cost[before]
            gain = (distortion[before] - distortion[after]) / more if more else 0.0
            steps.append((-gain, layer, cost[after]))
    for _, layer, upto in sorted(steps, key=lambda s: s[0]):
        more = min(max(0.0, upto - spent[layer]), budget - spent.sum())
        spent[layer] += max(0.0, more)
    return spent


def largest_fitting(
    amounts: Callable[[float], list[int]], cost: Callable[[list[int]], float], budget: float
) -> list[int]:
    """Of the amounts that a number in (0, 1] names, the largest that cost no more than the budget.

    Amounts must grow with the number. Where the smallest are too many already, they are returned.
    """
    low, high = 0.0, 1.0
    if cost(amounts(high)) <= budget:
        return amounts(high)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(amounts(middle)) <= budget else (low, middle)
    return amounts(max(low, 1e-9))
