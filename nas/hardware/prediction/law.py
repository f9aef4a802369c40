"""How long a class of kernels takes on a device: a roofline with fitted efficiencies.

    us = (overhead + max(operations / (compute x peak), bytes / (memory x bandwidth))) x correction

The correction is the exponential of a ridge regression on the logarithms of the shape: what tiles,
waves over the multiprocessors, alignment and the soft corner of the roofline add. A law knows its
calibrated shapes: outside their hull (in logarithms) a number is an extrapolation, and there the
correction fades, so that far from the data the roofline alone decides.

The roofline is Williams, Waterman and Patterson's (2009); waves and tiles as features are
NeuSight's (Lee et al., ASPLOS 2025), whose published timings the shipped laws are fitted on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Index = np.ndarray[Any, np.dtype[np.int_]]
TILES = ((128, 128), (128, 64), (64, 64), (128, 32), (32, 32))
SLACK = 0.05  # how far outside the hull, in logarithms, still counts as inside
FADE = 0.7  # how far outside nothing is left of the correction: twice the size
MANY = 30  # kernels from which a correction is tried
SHAPES = 24  # calibrated shapes that a law keeps to name the nearest


@dataclass(frozen=True)
class Peaks:
    """What a device could reach: operations and bytes a second, and how many multiprocessors."""

    gflops: float
    gbs: float
    units: int = 1

    def roofline(self, flops: Array, moved: Array, compute: float, memory: float) -> Array:
        """Microseconds by whichever bound limits, at these shares of the peaks."""
        return np.maximum(flops / (1e3 * self.gflops * compute), moved / (1e3 * self.gbs * memory))


@dataclass(frozen=True)
class Points:
    """Kernels of one class: sizes by name, operations, bytes, and microseconds where measured."""

    sizes: Mapping[str, Array]
    flops: Array
    moved: Array
    us: Array | None = None

    def __len__(self) -> int:
        return int(self.flops.size)

    @property
    def logs(self) -> Array:
        """Logarithms of the sizes, a row for each kernel."""
        return np.stack([np.log(self.sizes[name]) for name in sorted(self.sizes)], axis=1)

    def take(self, index: Index) -> Points:
        """Some of them."""
        sizes = {name: values[index] for name, values in self.sizes.items()}
        us = None if self.us is None else self.us[index]
        return Points(sizes, self.flops[index], self.moved[index], us)


@dataclass(frozen=True)
class Hull:
    """Where kernels of one class were measured: their range along each direction of `directions`.

    `names` are the sizes, in order; `shapes` some of the measured ones, far from each other.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, points: Points) -> Hull:
        """The hull of measured kernels."""
        along = directions(points.logs)
        return cls(
            tuple(sorted(points.sizes)),
            tuple(map(_short, along.min(axis=0))),
            tuple(map(_short, along.max(axis=0))),
            _scattered(points),
        )

    def holds(self, points: Points) -> Mask:
        """Whether each kernel is inside."""
        return np.asarray(self.outside(points) <= SLACK)

    def outside(self, points: Points) -> Array:
        """How far outside each kernel is, in logarithms; zero inside."""
        if tuple(sorted(points.sizes)) != self.names:
            return np.full(len(points), np.inf)
        along = directions(points.logs)
        beyond = np.maximum(np.array(self.low) - along, along - np.array(self.high))
        return np.asarray(beyond.max(axis=1).clip(0))

    def covers(self, other: Hull) -> bool:
        """Whether most of the other's measured shapes are inside."""
        rows = np.array(other.shapes, dtype=float).T
        zero = np.zeros(len(other.shapes))
        return bool(
            self.holds(Points(dict(zip(other.names, rows, strict=True)), zero, zero)).mean() > 0.5
        )

    def nearest(self, point: Points) -> tuple[dict[str, int], float]:
        """The nearest measured shape to the first kernel, and its distance in logarithms."""
        if tuple(sorted(point.sizes)) != self.names:
            return {}, float("inf")
        apart = np.abs(np.log(np.array(self.shapes, dtype=float)) - point.logs[0]).max(axis=1)
        best = int(apart.argmin())
        return dict(zip(self.names, self.shapes[best], strict=True)), float(apart[best])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hull:
        """The hull that `dataclasses.asdict` wrote."""
        shapes = tuple(tuple(shape) for shape in data["shapes"])
        return cls(tuple(data["names"]), tuple(data["low"]), tuple(data["high"]), shapes)


@dataclass(frozen=True)
class Law:
    """The fitted law of one class on one device.

    Args:
        overhead_us: what an empty kernel takes.
        compute, memory: shares of the device's peaks that the class reaches.
        weights: of the correction's features; empty where there is none.
        least, most: calibrated range of each feature.
        bounds: smallest and largest logarithm of the correction among the calibrated kernels.
        hull: the calibrated shapes; None for a law that rests on no measurement.
        spread: 90 % of held-out kernels are within this factor's logarithm.
        n: kernels it was fitted on.
        units: multiprocessors of the device it was fitted on.
    """

    overhead_us: float
    compute: float
    memory: float
    weights: tuple[float, ...]
    least: tuple[float, ...]
    most: tuple[float, ...]
    bounds: tuple[float, ...]
    hull: Hull | None
    spread: float
    n: int
    units: int = 1

    def us(self, points: Points, peaks: Peaks) -> Array:
        """Microseconds of each kernel on a device with these peaks."""
        bound = peaks.roofline(points.flops, points.moved, self.compute, self.memory)
        return np.asarray((self.overhead_us + bound) * self.correction(points, peaks))

    def correction(self, points: Points, peaks: Peaks) -> Array:
        """The factor of each kernel beside the roofline; one where nothing like it was measured."""
        if not self.weights or not self.hull or tuple(sorted(points.sizes)) != self.hull.names:
            return np.ones(len(points))
        terms = features(points, self.overhead_us, self.compute, self.memory, peaks)
        held = np.clip(terms, np.array(self.least), np.array(self.most))
        least, most = self.bounds
        left = (1 - self.hull.outside(points) / FADE).clip(0)
        return np.asarray(np.exp(left * (held @ np.array(self.weights)).clip(least, most)))

    def inside(self, points: Points) -> Mask:
        """Whether each kernel is within the hull of the calibrated shapes."""
        return self.hull.holds(points) if self.hull else np.zeros(len(points), dtype=bool)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Law:
        """The law that `to_json` wrote."""
        lists = {k: tuple(v) for k, v in data.items() if isinstance(v, list | tuple)}
        hull = Hull.from_json(data["hull"]) if data["hull"] else None
        return cls(**{**data, **lists, "hull": hull})


def directions(logs: Array) -> Array:
    """Each row along the axes, and along the sum and difference of each two.

    Ranges along these describe the hull of a cloud of points from outside, in few numbers.
    """
    columns = [logs[:, i] for i in range(logs.shape[1])]
    for i, j in itertools.combinations(range(logs.shape[1]), 2):
        columns += [logs[:, i] + logs[:, j], logs[:, i] - logs[:, j]]
    return np.stack(columns, axis=1)


def features(points: Points, overhead: float, compute: float, memory: float, peaks: Peaks) -> Array:
    """What the correction is made of, a row for each kernel; the first column is one."""
    logs = points.logs
    bound = peaks.roofline(points.flops, points.moved, compute, memory)
    ratio = np.log(np.maximum(bound, 1e-9) / max(overhead, 1e-3))
    intensity = np.log(np.maximum(points.flops, 1) / np.maximum(points.moved, 1))
    columns: list[Array] = [np.ones(len(points)), *logs.T]
    for i, j in itertools.combinations_with_replacement(range(logs.shape[1]), 2):
        columns.append(logs[:, i] * logs[:, j])
    columns += [np.logaddexp(0, ratio), 1 / (1 + np.exp(-ratio)), intensity, intensity**2]
    columns += [np.maximum(0, ratio - knot) for knot in (-2, -1, 0, 1, 2, 3)]
    for name in sorted(points.sizes):
        if name != "side":
            columns += [1.0 * (points.sizes[name] % q == 0) for q in (2, 4, 8, 32)]
    if {"m", "n"} <= set(points.sizes):
        columns += _waves(points.sizes, peaks.units)
    return np.stack(columns, axis=1)


def _waves(sizes: Mapping[str, Array], units: int) -> list[Array]:
    """Tiles of a matrix product: how full the last wave is, how much of them is padding."""
    m, n, batch = sizes["m"], sizes["n"], sizes.get("b", np.ones_like(sizes["m"]))
    columns = []
    for height, width in TILES:
        rows, across = np.ceil(m / height), np.ceil(n / width)
        tiles = batch * rows * across
        columns.append(np.log(np.ceil(tiles / units) * units / tiles))
        columns.append(np.log(rows * height / m * across * width / n))
        columns.append(np.maximum(0, np.log(tiles / units)))
    return columns


# --- fitting -----------------------------------------------------------------------------------


def fit(points: Points, peaks: Peaks, seed: int = 0) -> Law:
    """The law of measured kernels of one class; its spread is that of kernels held out.

    A plain roofline, or a corrected one where that predicts held-out kernels better in mean
    absolute logarithm. Needs one kernel at least.
    """
    assert points.us is not None and len(points)
    order = np.random.default_rng(seed).permutation(len(points))
    folds = np.array_split(order, 5) if len(points) >= 5 else []
    best: tuple[float, float, bool] = (np.inf, float(np.log(2)), False)
    for corrected in (False, True) if len(points) >= MANY else (False,):
        found: list[Array] = []
        for held in folds:
            law = _fit(points.take(np.setdiff1d(order, held).astype(int)), peaks, corrected)
            tested = points.take(held)
            assert tested.us is not None
            found.append(np.abs(np.log(tested.us / law.us(tested, peaks))))
        if found:
            residuals = np.concatenate(found)
            best = min(best, (float(residuals.mean()), upper(residuals), corrected))
    law = _fit(points, peaks, best[2])
    return replace(law, spread=round(best[1], 4))


def adjusted(law: Law, points: Points, peaks: Peaks) -> Law:
    """A law at the level of a few more measured kernels of its class.

    Its overhead follows those that it says launching limits, its shares of the peaks the others:
    small kernels say nothing of large ones. Its spread is no less than they are off afterwards.
    """
    assert points.us is not None and len(points)
    ratio = points.us / law.us(points, peaks)
    bound = peaks.roofline(points.flops, points.moved, law.compute, law.memory)
    small = bound < law.overhead_us
    launched = float(np.median(ratio[small])) if small.any() else 1.0
    worked = float(np.median(ratio[~small])) if not small.all() else 1.0
    found = replace(
        law,
        overhead_us=_short(law.overhead_us * launched),
        compute=_short(law.compute / worked),
        memory=_short(law.memory / worked),
    )
    missed = np.abs(np.log(points.us / found.us(points, peaks)))
    return replace(found, spread=round(max(law.spread, upper(missed)), 4))


def upper(residuals: Sequence[float] | Array, share: float = 0.9) -> float:
    """The conformal quantile: what the next residual stays under with this probability.

    Between two residuals where the rank is no whole number; where there are too few to promise it,
    the largest of them (Vovk et al., 2005).

    >>> upper([0.1, 0.2, 0.3]), upper(range(1, 20))
    (0.3, 18.0)
    """
    ordered = np.sort(np.asarray(residuals, dtype=float))
    ranks = np.arange(1, ordered.size + 1)
    return float(np.interp((ordered.size + 1) * share, ranks, ordered))


def _fit(points: Points, peaks: Peaks, corrected: bool) -> Law:
    assert points.us is not None
    overhead, compute, memory = _efficiencies(points, peaks)
    plain = overhead + peaks.roofline(points.flops, points.moved, compute, memory)
    terms = features(points, overhead, compute, memory, peaks)
    weights = _ridge(terms, np.log(points.us / plain)) if corrected else ()
    logs = terms @ np.array(weights) if corrected else np.zeros(1)
    return Law(
        overhead_us=_short(overhead),
        compute=_short(compute),
        memory=_short(memory),
        weights=weights,
        least=tuple(map(_short, terms.min(axis=0))) if weights else (),
        most=tuple(map(_short, terms.max(axis=0))) if weights else (),
        bounds=(_short(logs.min()), _short(logs.max())) if corrected else (),
        hull=Hull.of(points),
        spread=0.0,
        n=len(points),
        units=peaks.units,
    )


def _efficiencies(points: Points, peaks: Peaks) -> tuple[float, float, float]:
    """Overhead and the two shares of the peaks that fit best, in mean absolute logarithm."""
    assert points.us is not None
    some = np.random.default_rng(0).permutation(len(points))[:1500]
    part = points.take(some)
    assert part.us is not None
    floor = float(np.quantile(part.us, 0.01))
    flops, moved = part.flops / (1e3 * peaks.gflops), part.moved / (1e3 * peaks.gbs)
    compute, memory = np.geomspace(0.01, 1.5, 36), np.geomspace(0.02, 4, 36)
    best = (np.inf, floor, 1.0, 1.0)
    for overhead in floor * np.array([0.2, 0.4, 0.6, 0.8, 1.0]):
        for e in compute:
            bound = np.maximum((flops / e)[:, None], moved[:, None] / memory)
            error = np.abs(np.log((overhead + bound) / part.us[:, None])).mean(axis=0)
            at = int(error.argmin())
            # Where a bound never limits, the larger share says so most plainly.
            if error[at] < best[0] - 1e-9 or (error[at] < best[0] + 1e-9 and e > best[2]):
                best = (float(error[at]), float(overhead), float(e), float(memory[at]))
    return best[1], best[2], best[3]


def _ridge(terms: Array, target: Array) -> tuple[float, ...]:
    """Weights of a ridge regression on standardised terms, its strength chosen by leave-one-out."""
    mean, scale = terms.mean(axis=0), terms.std(axis=0)
    flat = scale < 1e-9
    scale = np.where(flat, 1.0, scale)
    standard = np.where(flat, 0.0, (terms - mean) / scale)
    centre = float(target.mean())
    left, values, right = np.linalg.svd(standard, full_matrices=False)
    projected = left.T @ (target - centre)
    best, chosen = np.inf, None
    for strength in np.geomspace(1e-5, 3.0, 12) * target.size:
        shrink = values**2 / (values**2 + strength)
        left_out = 1 - (left**2) @ shrink - 1 / target.size
        residual = (target - centre - left @ (shrink * projected)) / np.maximum(left_out, 1e-3)
        error = float(np.abs(residual).mean())
        if error < best:
            best = error
            chosen = right.T @ (shrink / np.maximum(values, 1e-12) * projected)
    assert chosen is not None
    weights = chosen / scale
    weights[0] = centre - float(mean @ weights) + weights[0] * mean[0]
    return tuple(float(f"{w:.7g}") for w in weights)


def _scattered(points: Points) -> tuple[tuple[int, ...], ...]:
    """Some shapes far from each other: each next is the farthest from those chosen."""
    logs = points.logs
    chosen = [int(logs.sum(axis=1).argmin())]
    apart = np.abs(logs - logs[chosen[0]]).max(axis=1)
    while len(chosen) < min(SHAPES, len(points)) and apart.max() > 0:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.abs(logs - logs[chosen[-1]]).max(axis=1))
    rounded = np.exp(logs[chosen]).round().astype(int)
    return tuple(tuple(int(v) for v in row) for row in rounded)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
