"""What stopping and resuming trainings saves on a table with learning curves.

    python benchmarks/fidelity.py --table FOLDER --seeds 20 --out benchmarks/results/fidelity.json

Simulated epochs that the surrogate strategy needs to each share of the true front's hypervolume,
without a promotion rule and with halving, under one worker; each pair of runs has the same seed.
Written after every seed; runs that are there already are not made again. The table is made by
`benchmarks/tables.py`. Beside the runs stands what each short training tells of the full one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from nas.api.replaying import one
from nas.runners.table import Table, read

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RULES = ("none", "halving")
# Halving stops most: of so many times as many trials it trains as many epochs, or fewer.
MORE = {"none": 1.0, "halving": 1.8}
BOOTSTRAPS = 2000


def search(table: Table, rule: str, seed: int, epochs: float) -> dict[str, Any]:
    """Epochs to each share, None where it is not reached within so many epochs."""
    full = table.levels[-1].epochs
    run = one(table, "surrogate", int(MORE[rule] * epochs / full), seed, promotion=rule)
    within = [(e, share) for e, share in run.epochs_curve if e <= epochs]
    return {
        "seed": seed, "rule": rule, "trials": len(dict(run.curve)), "stopped": run.stopped,
        "epochs": within[-1][0], "share": round(within[-1][1], 4),
        "to": {f"{s:g}": next((e for e, share in within if share >= s), None) for s in SHARES},
    }  # fmt: skip


def compared(runs: list[dict[str, Any]], share: str) -> dict[str, Any]:
    """Medians, who got there, and how many times sooner with halving.

    The interval is the 5th to the 95th percentile over resampled seeds; None is beyond what was
    looked at.
    """
    seeds = sorted({r["seed"] for r in runs})
    at = {(r["seed"], r["rule"]): r["to"][share] or math.inf for r in runs}
    plain, late = (np.array([at[s, rule] for s in seeds]) for rule in RULES)
    drawn = np.random.default_rng(0).integers(len(seeds), size=(BOOTSTRAPS, len(seeds)))
    with np.errstate(invalid="ignore"):
        ratios = _medians(plain[drawn]) / _medians(late[drawn])
        ratio = _medians(plain[None])[0] / _medians(late[None])[0]
    low, high = np.sort(np.where(np.isnan(ratios), 1.0, ratios))[
        [int(0.05 * BOOTSTRAPS), int(0.95 * BOOTSTRAPS)]
    ]
    both = dict(zip(RULES, (plain, late), strict=True))
    return {
        "median": {rule: _number(_medians(v[None])[0]) for rule, v in both.items()},
        "reached": {rule: int(np.isfinite(v).sum()) for rule, v in both.items()},
        "times_sooner": _number(ratio),
        "low": _number(low) if np.isfinite(ratio) else None,
        "high": _number(high) if np.isfinite(ratio) else None,
        "sooner": int((late < plain).sum()), "later": int((late > plain).sum()),
    }  # fmt: skip


def _medians(values: Any) -> Any:
    """The lower median of each row, so that one that is beyond all is not averaged with others."""
    return np.sort(values, axis=1)[:, (values.shape[1] - 1) // 2]


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def told(table: Table) -> dict[str, dict[str, float]]:
    """Kendall's tau of each short training's score with the full one's, by epochs.

    Of all networks, and of the best three tenths, among which a search decides.
    """
    full = np.nanmean(table.levels[-1].values, axis=1) * table.signs[0]
    best = full <= np.quantile(full, 0.3)
    found = {}
    for level in table.levels[:-1]:
        short = np.nanmean(level.values, axis=1) * table.signs[0]
        of = {"of_all": np.ones(len(full), dtype=bool), "of_the_best": best}
        found[f"{level.epochs:g}"] = {
            name: round(float(kendalltau(short[kept], full[kept]).statistic), 3)
            for name, kept in of.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--table", type=Path, required=True, help="a folder with a table.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=10000.0, help="what is looked at")
    given = parser.parse_args()
    table = read(given.table)
    runs = json.loads(given.out.read_text())["runs"] if given.out.is_file() else []
    for seed in range(given.first, given.first + given.seeds):
        known = any(r["seed"] == seed for r in runs)
        pair = [] if known else [search(table, rule, seed, given.epochs) for rule in RULES]
        runs += pair
        for run in pair:
            print(run, flush=True)
        document = {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("numpy", "scipy", "moocore")},
            "table": table.name, "within": given.epochs, "rungs": told(table),
            "shares": {f"{s:g}": compared(runs, f"{s:g}") for s in SHARES}, "runs": runs,
        }  # fmt: skip
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
