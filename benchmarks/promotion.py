"""Whom halving lets go on, of random points; and what that saves on a table with learning curves.

    python benchmarks/promotion.py --table FOLDER --seeds 20 --out benchmarks/results/promotion.json

200 random points arrive one by one at a rung, 40 seeds, reduction 3. Kept should be at least 0.95
of those that are on the front of all 200 in the end, and at most 0.4 of the dominated ones.

With a table (made by `benchmarks/tables.py`): simulated epochs that the surrogate strategy needs to
each share of the true front's hypervolume, with each rule, as a ratio to none.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nas.api.replaying import one
from nas.core.pareto import Array, non_dominated
from nas.core.promotion import Standing, halving
from nas.runners.table import read

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95)
# Trials of a run with each rule: about 6,000 epochs of the table of spiking networks.
TRIALS = {"none": 60, "halving": 330, "hyperband": 200}
POINTS, SEEDS, REDUCTION = 200, 40, 3
Draw = Callable[[np.random.Generator, int], Array]


def uniform(rng: np.random.Generator, objectives: int) -> Array:
    return rng.random((POINTS, objectives))


def normal(rng: np.random.Generator, objectives: int) -> Array:
    return rng.standard_normal((POINTS, objectives))


def opposed(rng: np.random.Generator, objectives: int) -> Array:
    """Points near a plane where all are equally good: the hardest to tell apart."""
    shares = rng.dirichlet(np.ones(objectives), POINTS)
    return shares + 0.15 * rng.standard_normal(shares.shape)


SHAPES: Mapping[str, Draw] = {"uniform": uniform, "normal": normal, "opposed": opposed}


def arrivals(points: Array) -> tuple[Array, Array]:
    """Who went on, and who is on the final front, of points in their order of arrival."""
    standings = [Standing(tuple(p)) for p in points]
    kept = [halving(standings[:i], s, REDUCTION) for i, s in enumerate(standings)]
    return np.array(kept), non_dominated(points)


def kept(draw: Draw, objectives: int, seeds: int = SEEDS) -> dict[str, float]:
    """The share kept of the final front's members and of the others, over seeds."""
    found = [arrivals(draw(np.random.default_rng(seed), objectives)) for seed in range(seeds)]
    on = np.concatenate([went[front] for went, front in found])
    off = np.concatenate([went[~front] for went, front in found])
    return {
        "members": len(on), "members_kept": round(float(on.mean()), 4),
        "dominated": len(off), "dominated_kept": round(float(off.mean()), 4),
    }  # fmt: skip


def speed(place: Path, seeds: int, epochs: float) -> dict[str, Any]:
    """Epochs to each share with each rule, over seeds, within so many epochs; None: not reached.

    The interval of a ratio of medians is the 5th to the 95th percentile of bootstrap resamples.
    """
    table = read(place)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        for rule, trials in TRIALS.items():
            run = one(table, "surrogate", trials, seed, promotion=rule)
            at = {f"{s:g}": run.epochs_to(s) or math.inf for s in SHARES}
            for share, value in at.items():
                reached = value if value <= epochs else math.inf
                found.setdefault(share, {}).setdefault(rule, []).append(reached)
            print(seed, rule, at, run.epochs_curve[-1], flush=True)
    shares = {
        share: {rule: _compared(rules["none"], values) for rule, values in rules.items()}
        for share, rules in found.items()
    }
    return {"table": table.name, "seeds": seeds, "within": epochs, "trials": TRIALS,
            "shares": shares}  # fmt: skip


def _compared(plain: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """The median, how many got there, and how many times sooner than without a rule."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(values), size=(2000, len(values)))
    one_, other = np.sort(np.array(plain)[drawn], axis=1), np.sort(np.array(values)[drawn], axis=1)
    middle = len(values) // 2
    with np.errstate(invalid="ignore"):
        ratios = one_[:, middle] / other[:, middle]
    ratio = sorted(plain)[middle] / sorted(values)[middle] if np.isfinite(values).any() else 0.0
    ends = np.quantile(np.nan_to_num(ratios, nan=1.0, posinf=1e9), [0.05, 0.95])
    number = [float(sorted(values)[middle]), float(ratio), *map(float, ends)]
    median, times, low, high = (round(n, 3) if 0 <= n < 1e8 else None for n in number)
    return {"median": median, "reached": int(np.isfinite(values).sum()), "times_sooner": times,
            "low": low, "high": high}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="a folder with a table.toml")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=6000.0, help="what is looked at")
    given = parser.parse_args()
    rows = [
        {"shape": name, "objectives": objectives, **kept(draw, objectives)}
        for name, draw in SHAPES.items() for objectives in (2, 3)
    ]  # fmt: skip
    document: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "moocore")},
        "points": POINTS, "seeds": SEEDS, "reduction": REDUCTION, "rows": rows,
    }  # fmt: skip
    if given.table:
        document["speed"] = speed(given.table, given.seeds, given.epochs)
    given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
