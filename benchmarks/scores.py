"""How good predictions are: rank, error, coverage; and the two lines they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nas.hardware.prediction.kernels import Kernel

Array = np.ndarray[Any, np.dtype[np.float64]]
MOST = 3000  # pairs grow with the square


@dataclass(frozen=True)
class Score:
    """One line of a result table; coverage is None where a method states no interval."""

    part: str
    device: str
    what: str
    method: str
    basis: str
    n: int
    tau: float
    mape: float
    coverage: float | None = None
    coverage_low: float | None = None
    coverage_high: float | None = None
    factor: float | None = None

    def line(self) -> str:
        """As text."""
        covered = ""
        if self.coverage is not None:
            covered = (
                f"{self.coverage:6.1%} [{self.coverage_low:.1%}, {self.coverage_high:.1%}]"
                f"  x/÷{self.factor:.2f}"
            )
        return (
            f"{self.device:10} {self.what:22} {self.method:34} {self.basis:12} {self.n:6d} "
            f"{self.tau:6.3f} {self.mape:7.1%}  {covered}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data, rounded."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


_COLUMNS = f"{'device':10} {'what':22} {'method':34} {'basis':12}"
HEAD = f"{_COLUMNS} {'n':>6} {'tau':>6} {'MAPE':>7}  coverage [its binomial interval]  interval"


def score(
    where: tuple[str, str, str],
    method: str,
    basis: str,
    true: Array,
    predicted: Array,
    factor: Array | float | None = None,
) -> Score:
    """Compares predictions with measurements; `where` is part, device and what."""
    mape = float(np.mean(np.abs(predicted / true - 1)))
    first = Score(*where, method, basis, len(true), kendall(true, predicted), mape)
    if factor is None:
        return first
    held = np.abs(np.log(true / predicted)) <= np.log(factor)
    low, high = wilson(int(held.sum()), len(held))
    doubt = {"coverage_low": low, "coverage_high": high, "factor": float(np.median(factor))}
    return Score(**{**asdict(first), "coverage": float(held.mean()), **doubt})


def kendall(a: Array, b: Array) -> float:
    """Kendall's tau-b; of a fixed random part where there are more than 3,000 numbers."""
    if len(a) > MOST:
        part = np.random.default_rng(0).permutation(len(a))[:MOST]
        a, b = a[part], b[part]
    x, y = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    return float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % binomial interval of a share."""
    p = hits / n
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return float((centre - half) / (1 + z**2 / n)), float((centre + half) / (1 + z**2 / n))


def mean(rows: Sequence[Score]) -> Score:
    """Means over the draws; the binomial interval of the coverage is of one draw's networks."""
    first = rows[0]
    n = round(float(np.mean([r.n for r in rows])))
    changed: dict[str, Any] = {
        "n": n,
        "tau": float(np.mean([r.tau for r in rows])),
        "mape": float(np.mean([r.mape for r in rows])),
    }
    if first.coverage is not None:
        held = float(np.average([r.coverage or 0 for r in rows], weights=[r.n for r in rows]))
        low, high = wilson(round(held * n), n)
        factor = float(np.median([r.factor or 0 for r in rows]))
        changed |= {
            "coverage": held, "coverage_low": low, "coverage_high": high, "factor": factor
        }  # fmt: skip
    return Score(**{**vars(first), **changed})


# --- the lines to beat -------------------------------------------------------------------------


def flops_line(flops: Array, us: Array, asked: Array) -> Array:
    """A constant and a rate fitted on known latencies, in least relative squares, none negative."""
    return _relative(np.column_stack([np.ones(len(us)), flops]), us) @ np.stack(
        [np.ones(len(asked)), asked]
    )


def _relative(table: Array, us: Array) -> Array:
    """Non-negative coefficients: those that come out negative are left out in turn."""
    kept = list(range(table.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(table[:, kept] / us[:, None], np.ones(len(us)), rcond=None)
        if (found >= 0).all() or len(kept) == 1:
            break
        kept.pop(int(found.argmin()))
    coefficients = np.zeros(table.shape[1])
    coefficients[kept] = np.maximum(found, 0)
    return coefficients


@dataclass(frozen=True)
class Roofline:
    """FLOPs and bytes of every kernel, one pair of rates for all, a cost for each kernel."""

    flops: Array  # networks x kernels, padded with zeros
    moved: Array
    counts: Array

    @classmethod
    def of(cls, networks: Sequence[Sequence[Kernel]]) -> Roofline:
        """The networks as a table."""
        most = max(map(len, networks))
        flops, moved = np.zeros((len(networks), most)), np.zeros((len(networks), most))
        for i, kernels in enumerate(networks):
            flops[i, : len(kernels)] = [k.flops for k in kernels]
            moved[i, : len(kernels)] = [k.bytes for k in kernels]
        return cls(flops, moved, np.array([len(k) for k in networks], dtype=float))

    def take(self, index: Array) -> Roofline:
        """Some of the networks."""
        return Roofline(self.flops[index], self.moved[index], self.counts[index])

    def fitted(self, us: Array, asked: Roofline) -> Array:
        """Microseconds of `asked`, with the rates that fit these latencies best."""
        best: tuple[float, float, Array] = (np.inf, 0.0, np.zeros(2))
        for balance in np.geomspace(0.1, 1000, 33):  # operations a byte at the ridge
            table = self._table(balance)
            found = _relative(table, us)
            error = float(np.abs(np.log(np.maximum(table @ found, 1e-9) / us)).mean())
            if error < best[0]:
                best = (error, float(balance), found)
        return np.asarray(asked._table(best[1]) @ best[2])

    def _table(self, balance: float) -> Array:
        work = np.maximum(self.flops / balance, self.moved).sum(axis=1)
        return np.column_stack([work, self.counts])


def totals(networks: Sequence[Sequence[Kernel]]) -> Array:
    """FLOPs of each network."""
    return np.array([sum(k.flops for k in kernels) for kernels in networks])
