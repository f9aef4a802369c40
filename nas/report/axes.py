"""Axes and labels of a plot of a front: what PNG, HTML and text plots share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from nas.core.front import Front
from nas.core.measurement import Measurement
from nas.core.objective import Objective
from nas.report.numbers import plain, short_unit

Numbers = Mapping[str, Measurement]
LOG_RANGE = 12.0


@dataclass(frozen=True)
class Axis:
    """One direction of a plot: an objective and the stretch of it that is shown.

    >>> Axis("latency_ms", "ms", "minimize", 1.0, 100.0, log=True).at(10.0)
    0.5
    """

    name: str
    unit: str
    goal: str
    low: float
    high: float
    log: bool

    def at(self, value: float) -> float:
        """Place of a value between `low` (0) and `high` (1); values beyond are cut off."""
        low, high, here = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return (here - low) / (high - low)

    def shows(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high

    def beyond(self, number: Measurement) -> tuple[bool, bool]:
        """Whether a number's interval goes on below and above what is shown.

        >>> wide = Measurement.exact("latency_ms", 2.0, "ms")
        >>> Axis("latency_ms", "ms", "minimize", 1.0, 100.0, log=True).beyond(wide)
        (False, False)
        """
        return number.low < self.low, number.high > self.high

    @property
    def label(self) -> str:
        """Name and unit, and which way is better: `latency (ms), lower is better`."""
        stem = self.name
        for ending in ("_ms", "_mb", "_mj", "_ips"):
            stem = stem.removesuffix(ending)
        unit = short_unit(self.unit)
        named = f"{stem.replace('_', ' ')} ({unit})" if unit else stem.replace("_", " ")
        return f"{named}, {'lower' if self.goal == 'minimize' else 'higher'} is better"

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside the axis with their texts, at most eight."""
        values = _log_ticks(self.low, self.high) if self.log else []
        if len(values) < 2:
            values = _even_ticks(self.low, self.high)
        return [(v, plain(v)) for v in values]


def axis(objective: Objective, members: Sequence[Numbers], others: Sequence[Numbers] = ()) -> Axis:
    """The axis that shows an objective; logarithmic over more than a decade.

    The front is shown whole, with its intervals as far as they stay within half its range around
    it, so that one very wide interval leaves room for the others; other trials as far as they are
    at most one and a half ranges worse, so that a network that learned nothing does not press the
    front against the border. A range is no less than the usual interval.
    """
    best = [row[objective.name] for row in members]
    low, high = min(m.value for m in best), max(m.value for m in best)
    log = _wants_log(objective, low, max([high, *(r[objective.name].value for r in others)]))
    scale, back = (math.log, math.exp) if log else (float, float)
    low, high = scale(low), scale(high)
    wide = [scale(m.high) - scale(m.low) for m in best if m.low > 0 or not log]
    reach = max(high - low, median(wide or [0.0])) or (1.0 if log else 0.1 * abs(high) or 1.0)
    ends = [scale(e) for m in best for e in (m.low, m.high) if e > 0 or not log]
    bottom, top = max(min([low, *ends]), low - reach / 2), min(max([high, *ends]), high + reach / 2)
    worse = [scale(r[objective.name].value) for r in others]
    if objective.goal == "minimize":
        top = max([top, *(w for w in worse if w <= high + 1.5 * reach)])
    else:
        bottom = min([bottom, *(w for w in worse if w >= low - 1.5 * reach)])
    margin = 0.06 * (top - bottom or reach)
    bottom, top = back(bottom - margin), back(top + margin)
    if objective.unit == "%":
        top = min(top, 100.5)
    return Axis(objective.name, objective.unit, objective.goal, bottom, top, log)


def _wants_log(objective: Objective, low: float, high: float) -> bool:
    return low > 0 and high / low > LOG_RANGE and objective.unit != "%"


def pairs(front: Front) -> list[tuple[Objective, Objective]]:
    """The panels of a plot as (x, y): the first objective against each other one.

    A front of one objective is drawn against itself, a row of points.
    """
    first, *others = front.objectives
    return [(other, first) for other in others] or [(first, first)]


def staircase(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """The border of what the points dominate, in the axes' own values, from end to end.

    >>> x, y = (Axis(n, "", "minimize", 0, 4, False) for n in "xy")
    >>> staircase([(1, 2), (2, 1)], x, y)
    [(1, 4), (1, 2), (2, 2), (2, 1), (4, 1)]
    """
    worst_x = x.high if x.goal == "minimize" else x.low
    worst_y = y.high if y.goal == "minimize" else y.low
    ordered = sorted(points, reverse=x.goal == "maximize")
    better = min if y.goal == "minimize" else max
    path: list[tuple[float, float]] = []
    level = worst_y
    for px, py in ordered:
        if better(py, level) == level:
            continue
        path += [(px, level), (px, py)]
        level = py
    return [*path, (worst_x, level)]


def place_labels(
    points: Sequence[tuple[float, float]],
    size: tuple[float, float],
    obstacles: Sequence[tuple[float, float]],
    area: tuple[float, float],
    gap: float = 7.0,
) -> list[tuple[float, float]]:
    """Centres of labels beside their points, so that few overlap; all in pixels.

    Args:
        points: where the labelled points are.
        size: width and height of a label.
        obstacles: other marks to keep clear of.
        area: width and height of the plot; labels stay inside.
        gap: free space between a point and its label.
    """
    marks = np.array([*points, *obstacles], dtype=np.float64)
    reach_x, reach_y = gap + size[0] / 2, gap + size[1] / 2
    ways = [(0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8), (1, 0), (-1, 0), (0, 1), (0, -1)]
    ways += [(1.8 * a, 1.8 * b) for a, b in ways[:4]]
    placed: list[tuple[float, float]] = []
    for px, py in points:
        options = [(px + a * reach_x, py + b * reach_y) for a, b in ways]
        costs = [
            _crowd(o, size, marks, placed, area) + 0.01 * order for order, o in enumerate(options)
        ]
        placed.append(options[int(np.argmin(costs))])
    return placed


def _crowd(
    centre: tuple[float, float],
    size: tuple[float, float],
    marks: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    placed: Sequence[tuple[float, float]],
    area: tuple[float, float],
) -> float:
    """How badly a label sits: other labels weigh most, then the border, then marks."""
    x, y = centre
    half_w, half_h = size[0] / 2, size[1] / 2
    labels = sum(abs(x - a) < size[0] + 2 and abs(y - b) < size[1] + 1 for a, b in placed)
    outside = x < half_w or y < half_h or x > area[0] - half_w or y > area[1] - half_h
    near = (np.abs(marks[:, 0] - x) < half_w + 4) & (np.abs(marks[:, 1] - y) < half_h + 4)
    return 10.0 * labels + 8.0 * outside + float(near.sum())


def _even_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, four to eight of them."""
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there is room."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [s * 10.0**d for d in decades for s in steps]
        inside = [float(f"{v:.10g}") for v in values if low <= v <= high]
        if len(inside) <= 8:
            return inside
    return inside[:: len(inside) // 8 + 1]
