"""How many evaluations each strategy needs on real tables: ours against its peers.

    python benchmarks/search.py --tables FOLDER --out benchmarks/results/search.json

Interleaved (seed, then table, then strategy) and resumable: what the output file holds already is
not run again, and several may write to one file. Beside it the same is written as `search.md`.
Tables are made by `benchmarks/tables.py`; the other packages come with `pip install -e
'.[rivals]'`. One default each: nothing is set for a table. A run ends at 99 %.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rivals
from search_summary import OURS, SHARES, document, markdown

from nas.api.replaying import one
from nas.runners.replay import Oracle, Replay, Run
from nas.runners.table import Table, read
from nas.strategies.choose import create

KNOWN, HIDDEN, GIVEN, HALVING = "costs known", "costs hidden", "costs given", "halving"
CANDIDATES = 4  # proposals that a peer given the costs chooses from
# Too slow to draw four proposals for each, or told of whole generations alone.
UNGIVEN = ("gp", "syne-ehvi", "pymoo-nsga2")
OTHERS = ("pymoo-nsga2", "syne-morea", "syne-ehvi")
# Evaluations of each; what is slow by itself gets fewer.
BUDGETS = {
    OURS: 2000, "nsga2": 2000, "evolution": 2000, "local": 2000, "predictor": 600, "random": 2000,
    "tpe": 300, "gp": 300, "pymoo-nsga2": 2000, "syne-morea": 2000, "syne-ehvi": 300,
    "syne-moasha": 2000,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run: where, who, in which set of rows, and the seed."""

    table: str
    strategy: str
    variant: str
    seed: int


def jobs(tables: Sequence[Table], strategies: Sequence[str], seeds: int) -> Iterator[Job]:
    """Every run, in order: strategies side by side on each table, then the next seed."""
    for seed in range(seeds):
        for table in tables:
            for strategy in strategies:
                for variant in variants(strategy, table):
                    yield Job(table.name, strategy, variant, seed)


def variants(strategy: str, table: Table) -> list[str]:
    """The sets of rows that a strategy has on a table."""
    curves = len(table.levels) > 2
    if strategy == OURS:
        return [KNOWN, HIDDEN, *([HALVING] if curves else [])]
    if strategy == "syne-moasha":
        return [HALVING] if curves else []
    return [KNOWN] if strategy in UNGIVEN else [KNOWN, GIVEN]


def measure(table: Table, job: Job, trials: int) -> dict[str, Any]:
    """One run, as a row of the results."""
    trials = 3 * trials if job.variant == HALVING and job.strategy == OURS else trials
    started = time.process_time()
    run = _run(table, job, trials)
    return {
        "table": job.table, "strategy": job.strategy, "variant": job.variant, "seed": job.seed,
        "trials": trials, "evaluations": len(run.curve), "final": round(run.curve[-1][1], 5),
        "to": {f"{s:g}": run.reached(s) for s in SHARES},
        "epochs": round(run.epochs_curve[-1][0], 3),
        "epochs_to": {f"{s:g}": run.epochs_to(s) for s in SHARES},
        "cost_asks": run.asks, "cpu_seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def _run(table: Table, job: Job, trials: int) -> Run:
    last = SHARES[-1]
    if job.strategy == OURS:
        promotion = HALVING if job.variant == HALVING else "none"
        costs = job.variant != HIDDEN
        return one(table, OURS, trials, job.seed, 1, promotion, costs, last)
    if job.strategy == "syne-moasha":
        proposals = create("random", table.space, table.objectives, (), job.seed)
        return rivals.Moasha(table, proposals, job.seed).run(trials, last)
    if job.strategy in OTHERS:
        peer = rivals.make(job.strategy, table, job.seed)
    else:
        peer = create(job.strategy, table.space, table.objectives, (), job.seed)
    if job.variant == KNOWN:
        return Replay(table, peer, job.seed).run(trials, last)
    oracle = Oracle(table, job.seed)
    screened = rivals.Screened(peer, table, oracle, CANDIDATES)
    return replace(Replay(table, screened, job.seed).run(trials, last), asks=oracle.asks)


def stored(path: Path) -> list[dict[str, Any]]:
    """The rows that a file holds."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.is_file() else []
    return rows


def save(path: Path, new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Adds rows to what the file holds by now; it is whole at every moment."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = {_key(r): r for r in (*stored(path), *map(dict, new))}
        ordered = [rows[k] for k in sorted(rows)]
        whole = document(ordered, rivals.versions())
        fresh = path.with_suffix(".new")
        fresh.write_text(_lines(whole), encoding="utf-8")
        os.replace(fresh, path)
        path.with_suffix(".md").write_text(markdown(whole), encoding="utf-8")
    return ordered


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["variant"], row["strategy"], row["table"], row["seed"]


def _lines(whole: Mapping[str, Any]) -> str:
    """JSON with one line for each run."""
    head = json.dumps({k: v for k, v in whole.items() if k != "runs"}, indent=1)
    runs = ",\n".join("  " + json.dumps(r) for r in whole["runs"])
    return f'{head[:-2]},\n "runs": [\n{runs}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strategies", default=",".join(BUDGETS))
    parser.add_argument("--variants", default="", help="sets of rows, with commas between")
    parser.add_argument("--only", default="", help="names of tables, with commas between")
    parser.add_argument("--most", type=int, default=2000, help="evaluations of each run at most")
    parser.add_argument("--minutes", type=float, default=math.inf)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    tables = {t.name: t for t in map(read, sorted(p.parent for p in given.tables.glob("*/*.toml")))}
    chosen = given.only.split(",") if given.only else list(tables)
    wanted = given.variants.split(",") if given.variants else [KNOWN, HIDDEN, GIVEN, HALVING]
    done = {_key(r) for r in stored(given.out)}
    for job in jobs([tables[n] for n in chosen], given.strategies.split(","), given.seeds):
        if job.variant not in wanted or _key(vars(job)) in done:
            continue
        if time.monotonic() > end:
            break
        row = measure(tables[job.table], job, min(given.most, BUDGETS[job.strategy]))
        save(given.out, [row])
        print(*vars(job).values(), row["to"], row["cpu_seconds"], file=sys.stderr, flush=True)
    save(given.out, [])


if __name__ == "__main__":
    main()
