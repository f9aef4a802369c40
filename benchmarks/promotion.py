"""Whom halving lets go on, of random points; `fidelity.py` has what that saves.

    python benchmarks/promotion.py --out benchmarks/results/promotion.json

200 random points arrive one by one at one, two or three rungs, each of which tells the end; 40
seeds, reduction 3. Kept should be at least 0.95 of those that are on the front of all 200 in the
end, and at most 0.4 of the dominated ones.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.pareto import Array, non_dominated
from nas.core.promotion import Standing, halving

POINTS, SEEDS, REDUCTION = 200, 40, 3
RUNGS = (1, 2, 3)  # at which a trial may be stopped
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


def arrivals(points: Array, rungs: int) -> tuple[Array, Array]:
    """Who came past all rungs, and who is on the final front, of points in order of arrival."""
    standings, kept = [Standing(tuple(p)) for p in points], np.ones(len(points), dtype=bool)
    for _ in range(rungs):
        came = np.flatnonzero(kept)
        for place, number in enumerate(came):
            earlier = [standings[i] for i in came[:place]]
            kept[number] = halving(earlier, standings[number], REDUCTION)
    return kept, non_dominated(points)


def kept(draw: Draw, objectives: int, rungs: int, seeds: int = SEEDS) -> dict[str, float]:
    """The share kept of the final front's members and of the others, over seeds."""
    each = [draw(np.random.default_rng(seed), objectives) for seed in range(seeds)]
    found = [arrivals(points, rungs) for points in each]
    on = np.concatenate([went[front] for went, front in found])
    off = np.concatenate([went[~front] for went, front in found])
    return {
        "members": len(on), "members_kept": round(float(on.mean()), 4),
        "dominated": len(off), "dominated_kept": round(float(off.mean()), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = [
        {"shape": name, "objectives": objectives, "rungs": rungs, **kept(draw, objectives, rungs)}
        for name, draw in SHAPES.items() for objectives in (2, 3) for rungs in RUNGS
    ]  # fmt: skip
    document: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "moocore")},
        "points": POINTS, "seeds": SEEDS, "reduction": REDUCTION, "rows": rows,
    }  # fmt: skip
    given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
