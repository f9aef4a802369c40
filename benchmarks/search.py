"""How many evaluations each strategy needs on real tables: ours against its peers.

    python benchmarks/search.py --tables FOLDER --seeds 20 --out benchmarks/results/search.json

Interleaved (seed, then table, then strategy) and resumable: what the output file holds already is
not run again. `--minutes` ends early. Tables are made by `benchmarks/tables.py`. One default each:
nothing is set for a table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nas.api.replaying import one
from nas.runners.table import Table, read

SHARES = (0.9, 0.95, 0.99)
OURS = "surrogate"
# Evaluations for each; what is slow by itself gets fewer.
BUDGETS = {OURS: 300, "nsga2": 2000, "random": 2000, "evolution": 2000, "tpe": 600, "gp": 300}
PACKAGES = ("numpy", "scipy", "optuna", "moocore")
Key = tuple[str, str, str, int]


def jobs(tables: Sequence[Table], strategies: Sequence[str], seeds: int) -> Iterator[Key]:
    """`(table, strategy, variant, seed)` in the order they are run."""
    for seed in range(seeds):
        for table in tables:
            for strategy in strategies:
                yield table.name, strategy, "costs known", seed
            if OURS in strategies:
                yield table.name, OURS, "costs hidden", seed
                if len(table.levels) > 2:  # learning curves
                    yield table.name, OURS, "halving", seed


def measure(table: Table, key: Key, trials: int) -> dict[str, Any]:
    """One run, as a row of the results."""
    _, strategy, variant, seed = key
    promotion = "halving" if variant == "halving" else "none"
    trials = 3 * trials if variant == "halving" else trials
    started = time.process_time()
    run = one(table, strategy, trials, seed, 1, promotion, costs=variant != "costs hidden")
    return {
        "table": table.name, "strategy": strategy, "variant": variant, "seed": seed,
        "trials": trials, "evaluations": len(run.curve), "final": round(run.curve[-1][1], 5),
        "to": {f"{s:g}": run.reached(s) for s in SHARES},
        "epochs_to": {f"{s:g}": run.epochs_to(s) for s in SHARES},
        "cost_asks": run.asks, "cpu_seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians for each table and strategy, and the ratios of peers to ours.

    A run that did not get so far counts as twice its budget, which flatters whoever failed.
    """
    found: dict[str, Any] = {"tables": {}, "ratios": {}}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        name = row["strategy"] + ("" if row["variant"] == "costs known" else f", {row['variant']}")
        groups.setdefault((row["table"], name), []).append(row)
    for (table, name), group in sorted(groups.items()):
        found["tables"].setdefault(table, {})[name] = {
            "seeds": len(group),
            "final": float(np.median([r["final"] for r in group])),
            "cost_asks": float(np.median([r["cost_asks"] for r in group])),
            **{f"to {s:g}": _typical(group, f"{s:g}", "to") for s in SHARES},
            **{f"epochs to {s:g}": _median(group, f"{s:g}", "epochs_to") for s in SHARES},
            **{f"reached {s:g}": sum(r["to"][f"{s:g}"] is not None for r in group) for s in SHARES},
        }
    for share in SHARES:
        found["ratios"][f"{share:g}"] = _ratios(found["tables"], f"to {share:g}")
    return found


def _typical(group: Sequence[Mapping[str, Any]], share: str, key: str) -> float:
    """Geometric mean of evaluations; a failed run counts as twice its budget."""
    return round(math.exp(np.mean([math.log(r[key][share] or 2 * r["trials"]) for r in group])), 1)


def _median(group: Sequence[Mapping[str, Any]], share: str, key: str) -> float | None:
    middle = float(np.median([r[key][share] or math.inf for r in group]))
    return middle if math.isfinite(middle) else None


def _ratios(tables: Mapping[str, Any], key: str) -> dict[str, Any]:
    """How many times more evaluations each peer needs: mean over tables, and least."""
    ratios: dict[str, list[float]] = {}
    for strategies in tables.values():
        if OURS not in strategies:
            continue
        peers = {n: v[key] / strategies[OURS][key] for n, v in strategies.items() if "," not in n}
        for name, ratio in peers.items():
            ratios.setdefault(name, []).append(ratio)
        rivals = [r for n, r in peers.items() if n not in (OURS, "evolution")]
        if rivals:
            ratios.setdefault("best of others", []).append(min(rivals))
    return {
        name: {
            "geometric mean": round(math.exp(np.mean(np.log(found))), 2),
            "least": round(min(found), 2), "tables": len(found),
        }
        for name, found in ratios.items() if name != OURS
    }  # fmt: skip


def save(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes everything; the file is whole at every moment."""
    document = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "seeds": len({r["seed"] for r in rows}),
        "reading": "a run that did not get so far counts as twice its evaluations (`trials`), so "
        "a peer's ratio is a lower bound where it failed; `seeds` of each row says how many ran",
        "summary": summarise(rows),
        "runs": list(rows),
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strategies", default=",".join(BUDGETS))
    parser.add_argument("--only", default="", help="names of tables, with commas between")
    parser.add_argument("--most", type=int, default=2000, help="evaluations of each run at most")
    parser.add_argument("--minutes", type=float, default=math.inf)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    rows = json.loads(given.out.read_text())["runs"] if given.out.is_file() else []
    done = {(r["table"], r["strategy"], r["variant"], r["seed"]) for r in rows}
    tables = {t.name: t for t in map(read, sorted(p.parent for p in given.tables.glob("*/*.toml")))}
    chosen = given.only.split(",") if given.only else list(tables)
    strategies = given.strategies.split(",")
    for key in jobs([tables[n] for n in chosen], strategies, given.seeds):
        if key in done:
            continue
        if time.monotonic() > end:
            break
        rows.append(measure(tables[key[0]], key, min(given.most, BUDGETS.get(key[1], 300))))
        save(given.out, rows)
        print(key, rows[-1]["to"], rows[-1]["cpu_seconds"], flush=True)
    save(given.out, rows)
    print(json.dumps(summarise(rows)["ratios"], indent=1))


if __name__ == "__main__":
    main()
