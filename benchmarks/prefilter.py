"""Does a zero-cost proxy help to choose what to train? Zen scores of NAS-Bench-201 say.

    python benchmarks/prefilter.py RAW_FOLDER TABLES_FOLDER --out benchmarks/results/prefilter.json

RAW_FOLDER holds `nb201/nb201.csv.gz`, whose Zen scores are of the networks themselves; the tables
are those that `benchmarks/tables.py` makes of it. Of each strategy:

- `plain`;
- `drop half`: two networks are proposed and built, the one with the lower Zen score is dropped;
- `drop half, size apart`: the same by what Zen says beyond the networks' sizes;
- `drop fifth`: a network is built, and dropped where its Zen score is in the lowest fifth of all;
- `feature` (surrogate): Zen is known of every candidate, as if building were free.

What is dropped costs no evaluation, which flatters the filters: a build is not free. What the
output file holds already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import gzip
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.architecture import Architecture
from nas.core.trial import History, Proposal
from nas.report.correlations import correlation, residuals
from nas.runners.replay import Oracle, Replay
from nas.runners.table import Table, read
from nas.strategies.choose import create
from nas.strategies.protocol import Strategy

EDGES = ("op_01", "op_02", "op_12", "op_03", "op_13", "op_23")
SHARES = (0.9, 0.95, 0.99)
BUDGETS = {"evolution": 1000, "surrogate": 100}
VARIANTS = ("plain", "drop half", "drop half, size apart", "drop fifth")
Row = Mapping[str, float]


class Filtered:
    """A strategy whose proposals are built and, where a proxy says so, dropped."""

    def __init__(self, inner: Strategy, drops: Callable[[Architecture, Architecture], bool]):
        self._inner = inner
        self._drops = drops

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The better of each pair of proposals."""
        found = self._inner.propose(history, 2 * count)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [b if self._drops(a.architecture, b.architecture) else a for a, b in pairs]


def scores(raw: Path, data: str) -> tuple[dict[tuple[int, ...], Row], np.ndarray]:
    """Zen score, parameters and MACs of every cell; and Zen's share beyond the sizes."""
    with gzip.open(raw / "nb201" / "nb201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    cells = {}
    for row in rows:
        cells[tuple(int(row[e]) for e in EDGES)] = {
            "zen": float(row[f"{data}_zen"]),
            "params": float(row[f"{data}_params_M"]),
            "macs": float(row[f"{data}_conv_macs_M"]),
            "accuracy": float(row[f"{data}_val_acc_200ep"]),
        }
    columns = {n: np.array([c[n] for c in cells.values()]) for n in ("zen", "params", "macs")}
    return cells, residuals(columns["zen"], np.column_stack([columns["params"], columns["macs"]]))


def strategy(
    name: str, variant: str, table: Table, seed: int, cells: Mapping[tuple[int, ...], Row],
    apart: Mapping[tuple[int, ...], float],
) -> tuple[Strategy, Oracle]:  # fmt: skip
    """A strategy in one of its variants."""

    def cell(a: Architecture) -> tuple[int, ...]:
        return tuple(int(a.choices[e]) for e in EDGES)

    oracle = Oracle(table, seed)

    def known(a: Architecture) -> dict[str, float]:
        return {**oracle(a), "zen": cells[cell(a)]["zen"]}

    costs = known if variant == "feature" else oracle
    inner = create(name, table.space, table.objectives, (), seed, costs=costs)
    lowest = np.quantile([c["zen"] for c in cells.values()], 0.2)
    drops: dict[str, Callable[[Architecture, Architecture], bool]] = {
        "drop half": lambda a, b: cells[cell(a)]["zen"] < cells[cell(b)]["zen"],
        "drop half, size apart": lambda a, b: apart[cell(a)] < apart[cell(b)],
        "drop fifth": lambda a, b: cells[cell(a)]["zen"] < lowest,
    }
    return Filtered(inner, drops[variant]) if variant in drops else inner, oracle


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("raw", type=Path)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="names of tables")
    parser.add_argument("--surrogate-seeds", type=int, default=5)
    parser.add_argument("--strategies", nargs="*", default=list(BUDGETS))
    given = parser.parse_args(arguments)
    report: dict[str, Any] = {
        **(json.loads(given.out.read_text()) if given.out.exists() else {"tables": {}}),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "packages": {p: version(p) for p in ("numpy", "scipy", "optuna")},
        "budgets": BUDGETS,
    }  # fmt: skip
    tables = [read(folder) for folder in sorted(given.tables.glob("nb201-*"))]
    tables = [t for t in tables if not given.only or t.name in given.only]
    for name in given.strategies:
        for table in tables:
            data = "cifar100" if "cifar100" in table.name else "cifar10"
            cells, beyond = scores(given.raw, data)
            apart = dict(zip(cells, map(float, beyond), strict=True))
            found = report["tables"].setdefault(table.name, {"zen": _tau(cells)})
            seeds = given.surrogate_seeds if name == "surrogate" else given.seeds
            for variant in (*VARIANTS, *(["feature"] if name == "surrogate" else [])):
                if f"{name}, {variant}" in found:
                    continue
                runs, started = [], time.process_time()
                for seed in range(seeds):
                    made, oracle = strategy(name, variant, table, seed, cells, apart)
                    run = Replay(table, made, seed).run(BUDGETS[name])
                    runs.append(replace(run, asks=oracle.asks))
                found[f"{name}, {variant}"] = _summary(runs, time.process_time() - started)
                print(table.name, name, variant, found[f"{name}, {variant}"], flush=True)
                given.out.write_text(json.dumps(report, indent=1) + "\n")
    report["fewer evaluations than plain"] = ratios(report["tables"])
    given.out.write_text(json.dumps(report, indent=1) + "\n")


def ratios(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How many times fewer evaluations than `plain` each variant needs: geometric means of tables.

    Of tables on which both got there; `of` says how many those are.
    """
    found: dict[str, Any] = {}
    for name, variant in ((n, v) for n in BUDGETS for v in (*VARIANTS[1:], "feature")):
        for share in ("to 0.9", "to 0.95"):
            pairs = [
                (t[f"{name}, plain"][share], t[f"{name}, {variant}"][share])
                for t in tables.values()
                if f"{name}, plain" in t and f"{name}, {variant}" in t
            ]
            both = [math.log(a / b) for a, b in pairs if a and b]
            if both:
                ratio = math.exp(float(np.mean(both)))
                found.setdefault(f"{name}, {variant}", {})[share] = {
                    "ratio": round(ratio, 2), "least": round(math.exp(min(both)), 2),
                    "of": len(both),
                }  # fmt: skip
    return found


def _tau(cells: Mapping[tuple[int, ...], Row]) -> dict[str, Any]:
    """Zen against accuracy on 1,000 cells drawn evenly, raw and beyond the sizes."""
    rng = np.random.default_rng(0)
    drawn = [list(cells.values())[i] for i in rng.choice(len(cells), 1000, replace=False)]
    column = {n: np.array([c[n] for c in drawn]) for n in ("zen", "params", "macs", "accuracy")}
    sizes = np.column_stack([column["params"], column["macs"]])
    return {
        "raw": correlation(column["zen"], column["accuracy"]).to_json(),
        "size apart": correlation(column["zen"], column["accuracy"], sizes).to_json(),
        "macs": correlation(column["macs"], column["accuracy"]).to_json(),
    }


def _summary(runs: Sequence[Any], seconds: float) -> dict[str, Any]:
    """Median evaluations to each share (None where most runs never got there), and the last one."""
    reached = {f"to {s:g}": sorted(r.reached(s) or np.inf for r in runs) for s in SHARES}
    middle = {n: float(np.median(v)) for n, v in reached.items()}
    return {
        "seeds": len(runs),
        **{n: None if np.isinf(v) else v for n, v in middle.items()},
        "final": round(float(np.median([r.curve[-1][1] for r in runs])), 4),
        "cpu_seconds": round(seconds),
    }


if __name__ == "__main__":
    main()
