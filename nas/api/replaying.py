"""A strategy on a tabulated benchmark: how much of the true front it finds, and how soon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core.errors import NasError, unknown
from nas.core.promotion import RULES
from nas.runners.replay import Oracle, Replay, Run, summary
from nas.runners.table import Table, read
from nas.strategies.choose import create


def replay(
    table: str | Path | Table,
    strategy: str = "surrogate",
    trials: int = 200,
    seeds: int | Sequence[int] = 20,
    workers: int = 1,
    promotion: str = "none",
    costs: bool = True,
) -> dict[str, Any]:
    """Runs a strategy on a table, once for each seed.

    An evaluation is a distinct architecture; what was asked for before is free. The strategy
    observes one seed column and is scored on the mean of all, as hypervolume of what it trained to
    the end relative to that of the table's true front.

    Args:
        table: folder with a `table.toml`, or a table that was read.
        strategy: `surrogate`, `evolution`, `local`, `predictor`, `nsga2`, `tpe`, `gp`, `random`,
            `optuna:SamplerName`.
        trials: evaluations of each run.
        seeds: how many runs, from seed 0 on, or which ones.
        workers: how many trials train at once on the simulated clock.
        promotion: `none`, `halving` or `hyperband`, for tables with fidelities.
        costs: whether a strategy that can may ask for the costs that are known before training.

    Returns:
        `{"table", "strategy", "runs": [{"seed", "curve": [[evaluations, ratio], ...],
        "epochs_curve": [[simulated epochs, ratio], ...], ...}], "summary"}`, plain data.

    Raises:
        NasError: for a table, strategy or rule that does not exist.
    """
    found = table if isinstance(table, Table) else read(table)
    if promotion not in RULES:
        raise unknown("promotion", promotion, RULES)
    if promotion != "none" and len(found.levels) < 2:
        raise NasError(
            f"table {found.name!r} has no fidelities to stop a training at",
            "type --promotion none, or give the table [[fidelities]]",
        )
    if trials < 1 or workers < 1:
        raise NasError(
            f"no replay has trials={trials} and workers={workers}", "both are at least 1"
        )
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    runs = [one(found, strategy, trials, s, workers, promotion, costs) for s in numbers]
    return {
        "table": found.name,
        "strategy": strategy,
        "trials": trials,
        "workers": workers,
        "promotion": promotion,
        "runs": [run.to_json() for run in runs],
        "summary": summary(runs),
    }


def one(
    table: Table,
    strategy: str,
    trials: int,
    seed: int,
    workers: int = 1,
    promotion: str = "none",
    costs: bool = True,
    until: float = math.inf,
) -> Run:
    """One run of `replay`, ended where so much of the hypervolume is found."""
    oracle = Oracle(table, seed) if costs and any(table.known) else None
    chosen = create(strategy, table.space, table.objectives, (), seed, costs=oracle)
    run = Replay(table, chosen, seed, workers, promotion).run(trials, until)
    return replace(run, asks=oracle.asks if oracle else 0)
