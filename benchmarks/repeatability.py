"""How well latencies repeat on a noisy machine: our protocol and the usual ways, interleaved.

    python benchmarks/repeatability.py --networks FOLDER [--minutes 12] [--seed 1]

Twelve networks of the space `largekernel`, spread evenly in log latency over a factor of ten, are
measured in five rounds while the load generator (`load.py`) keeps all cores busy for a third of the
time. A round measures them with every method, in shuffled order, each time in fresh processes: ours
from one process (eight times) and from three, and the `timers.py`. FOLDER is where the sampled
networks are exported to, and kept.

Coverage is of pairs that share nothing: each of the first 20 measurements from one process states
an interval, and the one 20 measurements later, half the run apart, is the repeat. Networks of one
process share its luck, so beside the binomial interval there is one from drawing the 20 pairs of
processes again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kept import keep
from load import Load, bursts
from sampled import exported
from scores import Array, kendall, wilson
from timers import METHODS, timed

from nas.catalog import DEVICES, find
from nas.hardware.device import Device, load
from nas.hardware.lease import Lease
from nas.hardware.timing import measure

POOL, SAMPLE = 40, 7  # networks to choose from, and the seed that they are drawn with
NETWORKS, FACTOR, FASTEST_MS = 12, 10.0, 0.8
ROUNDS, SINGLES, SHARE = 5, 8, 1 / 3
ONE, THREE = "ours, one process", "ours, three processes"
Row = dict[str, Any]


def spread(folder: Path, device: Device) -> list[tuple[Path, float]]:
    """Twelve networks, evenly in log latency over a factor of ten, with a first look's latencies.

    They are chosen once; `spread.json` in the folder says which.
    """
    kept = folder / "spread.json"
    if kept.exists():
        return [(folder / name, ms) for name, ms in json.loads(kept.read_text()).items()]
    paths = exported(folder, POOL, SAMPLE)
    with tempfile.TemporaryDirectory(prefix="nas-locks-") as locks:
        lease = Lease(Path(locks), device.name)
        found = measure(paths, device, lease, processes=3, basis="untrained form")
    ms = np.array([np.inf if isinstance(m, str) else m.value for m in found])
    chosen: list[int] = []
    for wanted in np.geomspace(FASTEST_MS, FACTOR * FASTEST_MS, NETWORKS):
        apart = np.abs(np.log(ms / wanted))
        apart[chosen] = np.inf
        chosen.append(int(apart.argmin()))
    chosen.sort(key=lambda i: float(ms[i]))
    kept.write_text(json.dumps({paths[i].name: round(float(ms[i]), 4) for i in chosen}))
    return [(paths[i], float(ms[i])) for i in chosen]


def plan(rounds: int, singles: int, seed: int) -> list[tuple[int, str]]:
    """Round and method of every turn; the methods of a round are shuffled."""
    drawn = random.Random(seed)
    turns = []
    for place in range(rounds):
        methods = [*[ONE] * singles, THREE, *METHODS]
        drawn.shuffle(methods)
        turns += [(place, method) for method in methods]
    return turns


def turn(method: str, files: Sequence[Path], device: Device, lease: Lease, seed: int) -> Row:
    """All networks measured once."""
    if method in METHODS:
        return {"ms": timed(method, files)["ms"]}
    processes = 3 if method == THREE else 1
    found = measure(
        files, device, lease, processes=processes, basis="untrained form", seed=100_000 * seed
    )
    failed = [m for m in found if isinstance(m, str)]
    if failed:
        raise RuntimeError(f"{len(failed)} networks could not be measured: {failed[0]}")
    numbers = [m for m in found if not isinstance(m, str)]
    records = [m.record for m in numbers]
    return {
        "ms": [m.value for m in numbers],
        "low": [m.low for m in numbers],
        "high": [m.high for m in numbers],
        "converged": [r["converged"] for r in records],
        "noisy": [r["noisy"] for r in records],
        "kept": [round(r["kept"] / r["n"], 3) for r in records],
        "passes": [sum(r["passes"]) for r in records],
        "between": records[0]["between"],
        "between_is": records[0]["between_is"],
        "repeats": records[0]["repeats"],
        "repeated": any(s["repeated"] for s in records[0]["sessions"]),
        "drift": max(s["drift"] for s in records[0]["sessions"]),
    }


def run(
    chosen: Sequence[Path], device: Device, minutes: float, singles: int, seed: int
) -> tuple[list[Row], float]:
    """Every turn of every round, no round before its time; and the busy share of the run."""
    rows = []
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="nas-locks-") as folder,
        Load(bursts(4 * 60 * minutes, SHARE, seed)) as generator,
    ):
        for number, (place, method) in enumerate(plan(ROUNDS, singles, seed)):
            time.sleep(max(0.0, began + 60 * minutes * place / ROUNDS - time.monotonic()))
            start = time.monotonic()
            found = turn(method, chosen, device, Lease(Path(folder), device.name), number)
            end = time.monotonic()
            rows.append({
                "round": place, "method": method, "at_s": round(start - began, 1),
                "seconds": round(end - start, 2),
                "load": round(generator.share(start, end), 3), **found,
            })  # fmt: skip
            print(f"{rows[-1]['at_s']:7.1f} s  {method:24} {end - start:5.1f} s", flush=True)
        return rows, generator.share(began, time.monotonic())


# --- the figures -------------------------------------------------------------------------------


def repeats(rows: Sequence[Row], method: str, *, first: bool) -> Array:
    """Latencies of a method, repeats by networks: the first of each round, or all of them."""
    own = [row for row in rows if row["method"] == method]
    if first:
        own = [next(r for r in own if r["round"] == place) for place in range(ROUNDS)]
    return np.array([row["ms"] for row in own])


def agreement(table: Array) -> dict[str, float]:
    """Kendall's tau between repeats, and the coefficient of variation of each network."""
    taus = [kendall(a, b) for a, b in itertools.combinations(table, 2)]
    cv = table.std(axis=0, ddof=1) / table.mean(axis=0)
    return {
        "repeats": len(table), "tau_min": min(taus), "tau_mean": float(np.mean(taus)),
        "cv_median": float(np.median(cv)), "cv_max": float(cv.max()),
    }  # fmt: skip


def coverage(rows: Sequence[Row]) -> dict[str, Any]:
    """How often the interval of one process holds a later one's value, in disjoint pairs."""
    own = [row for row in rows if row["method"] == ONE]
    half = len(own) // 2
    ms, low, high = (np.array([row[k] for row in own]) for k in ("ms", "low", "high"))
    held = (low[:half] <= ms[half : 2 * half]) & (ms[half : 2 * half] <= high[:half])
    rng = np.random.default_rng(0)
    drawn = held.mean(axis=1)[rng.integers(0, half, (4000, half))].mean(axis=1)
    every = [(low[i] <= ms[j]) & (ms[j] <= high[i])
             for i, j in itertools.combinations(range(len(own)), 2)]  # fmt: skip
    return {
        "pairs": int(held.size), "share": float(held.mean()),
        "binomial_95": wilson(int(held.sum()), held.size),
        "by_process_95": [float(v) for v in np.quantile(drawn, [0.025, 0.975])],
        "all_later_pairs": {"pairs": int(np.size(every)), "share": float(np.mean(every))},
        "half_width": float(np.median((high - low) / 2 / ms)),
    }  # fmt: skip


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that is promised, by method."""
    methods: dict[str, Any] = {}
    for method in (ONE, THREE, *METHODS):
        own = [row for row in rows if row["method"] == method]
        methods[method] = agreement(repeats(rows, method, first=True))
        seconds = [row["seconds"] / len(row["ms"]) for row in own]
        methods[method]["seconds_a_network"] = float(np.mean(seconds))
        methods[method]["most_seconds"] = max(seconds)
    all_singles = agreement(repeats(rows, ONE, first=False))
    return {"methods": methods, "all from one process": all_singles, "coverage": coverage(rows)}


def table(found: Mapping[str, Any]) -> str:
    """The figures as text."""
    rows = {**found["methods"], f"{ONE}, all": found["all from one process"]}
    lines = [f"{'':28}{'n':>3}  tau min  mean  CV median    max  s a network (most)"]
    for name, f in rows.items():
        line = f"{name:28}{f['repeats']:>3}  {f['tau_min']:7.3f} {f['tau_mean']:5.3f}"
        line += f"  {f['cv_median']:9.2%} {f['cv_max']:6.1%}"
        if "seconds_a_network" in f:
            line += f"  {f['seconds_a_network']:10.2f} ({f['most_seconds']:.2f})"
        lines.append(line)
    c = found["coverage"]
    lines.append(
        f"90 % intervals (half-width {c['half_width']:.1%}) held {c['share']:.1%} of {c['pairs']} "
        f"later repeats; 95 % of it: binomial {c['binomial_95'][0]:.1%} to "
        f"{c['binomial_95'][1]:.1%}, by process {c['by_process_95'][0]:.1%} to "
        f"{c['by_process_95'][1]:.1%}; all {c['all_later_pairs']['pairs']} pairs "
        f"{c['all_later_pairs']['share']:.1%}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=Path, required=True, help="folder of exported networks")
    parser.add_argument("--minutes", type=float, default=12.0, help="the rounds are spread over")
    parser.add_argument("--singles", type=int, default=SINGLES, help="of ours in a round")
    parser.add_argument("--seed", type=int, default=1, help="of the load and the order")
    parser.add_argument("--out", type=Path, help="instead of benchmarks/results/repeatability.json")
    given = parser.parse_args()
    device = load(find(DEVICES, "cpu"))
    chosen = spread(given.networks, device)
    ms = [round(value, 3) for _, value in chosen]
    print(f"networks of {ms} ms, a factor of {ms[-1] / ms[0]:.1f}", flush=True)
    rows, busy = run([p for p, _ in chosen], device, given.minutes, given.singles, given.seed)
    found = figures(rows)
    print(table(found))
    print(f"all cores busy for {busy:.0%} of {rows[-1]['at_s'] + rows[-1]['seconds']:.0f} s")
    document = {
        "networks": [{"file": p.name, "ms": round(m, 4)} for p, m in chosen],
        "sample": SAMPLE, "load": {"seed": given.seed, "share": round(busy, 4)},
        "figures": found, "rows": rows,
    }  # fmt: skip
    keep("repeatability", document, given.out)


if __name__ == "__main__":
    main()
