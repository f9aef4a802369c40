"""Which small piece of work tells when a shared machine's others slow a network down.

    python benchmarks/neighbours.py --networks FOLDER [--seconds 120] [--seed 7]

Four networks of the space `largekernel` and three candidates for the reference kernel are timed in
turn on one thread: the exponentials that it is, with and without the rounds that come first, and
the matrix product and copy that it was. Calm is a call within a twentieth of the network's lower
tenth, slowed one more than a tenth beyond it. Of each candidate is said how its time goes with the
networks' (correlation of logarithms), and by how much of itself it rises when they are slowed, at
the median and at its own noise (the upper tenth of calm calls); then what a gate at 1.08 times its
lower tenth keeps of calm and of slowed calls. A machine without others has no slowed calls.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from kept import keep
from sampled import exported
from scores import Array
from timers import session

from nas.hardware.agent.reference import Reference
from nas.hardware.hosts import SET
from nas.hardware.protocol import Protocol

NETWORKS, POOL = 4, 8
GROUP_S, VISIT_S = 0.002, 0.012
CALM, SLOWED = 1.05, 1.1
GATE = Protocol().gate


def kernels() -> dict[str, Callable[[], float]]:
    """Each candidate as a function that says its microseconds."""
    warm, cold = Reference(), Reference()
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((128, 128)).astype(np.float32) for _ in range(2))
    source = rng.standard_normal(32768).astype(np.float32)
    product, target = np.empty_like(left), np.empty_like(source)

    def former() -> None:
        np.matmul(left, right, out=product)
        np.copyto(target, source)

    return {
        "exponentials, warm": warm.run,
        "exponentials": lambda: _us(lambda: cold._work(16)),
        "product and copy": lambda: _us(former),
    }


def _us(work: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / 1e3


def traced(paths: list[Path], seconds: float, seed: int) -> tuple[Array, Array]:
    """The network of each group of calls; its median and the slower of each kernel's two runs."""
    calls = [session(str(path))[1] for path in paths]
    typical = [min(_us(call) for _ in range(20)) for call in calls]
    each = list(kernels().values())
    rng = np.random.default_rng(seed)
    which, rows = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for place in rng.permutation(len(calls)):
            group = max(1, int(1e6 * GROUP_S / typical[place]))
            before = [kernel() for kernel in each]
            for _ in range(max(1, round(1e6 * VISIT_S / typical[place] / group))):
                took = float(np.median([_us(calls[place]) for _ in range(group)]))
                after = [kernel() for kernel in each]
                which.append(place)
                rows.append([took, *map(max, before, after)])
                before = after
    return np.array(which), np.array(rows)


def figures(which: Array, rows: Array) -> dict[str, Any]:
    """What each candidate says of the networks' state."""
    slow = np.empty(len(rows))
    for place in np.unique(which):
        own = which == place
        slow[own] = rows[own, 0] / np.quantile(rows[own, 0], 0.1)
    calm, slowed = slow <= CALM, slow > SLOWED
    found: dict[str, Any] = {
        "groups": len(rows), "calm": float(calm.mean()), "slowed": float(slowed.mean()),
        "slowed_times": float(np.median(slow[slowed])) if slowed.any() else None, "kernels": {},
    }  # fmt: skip
    for place, name in enumerate(kernels(), start=1):
        took = rows[:, place] / np.quantile(rows[:, place], 0.1)
        found["kernels"][name] = {
            "us": float(np.quantile(rows[:, place], 0.1)),
            "correlation": float(np.corrcoef(np.log(slow), np.log(took))[0, 1]),
            "noise": float(np.quantile(took[calm], 0.9)),
            "rises": float(np.median(took[slowed])) if slowed.any() else None,
            "keeps_calm": float((took[calm] <= GATE).mean()),
            "keeps_slowed": float((took[slowed] <= GATE).mean()) if slowed.any() else None,
        }
    return found


def show(found: dict[str, Any]) -> None:
    """The figures as a table."""
    times = found["slowed_times"]
    slowed = f"{found['slowed']:.0%} slowed" + (
        f", {times:.2f} times at the median" if times else ""
    )
    print(f"{found['groups']} groups of calls: {found['calm']:.0%} calm, {slowed}")
    print(f"{'':20}{'us':>7}{'corr.':>8}{'noise':>8}{'rises':>8}{'keeps calm':>12}{'slowed':>8}")
    for name, row in found["kernels"].items():
        said = [row["rises"], row["keeps_slowed"]]
        rises, slowed = ("-" if v is None else f"{v:.2f}" for v in said)
        print(f"{name:20}{row['us']:7.1f}{row['correlation']:8.2f}{row['noise']:8.2f}{rises:>8}"
              f"{row['keeps_calm']:12.2f}{slowed:>8}")  # fmt: skip


def main() -> None:
    """Traces, prints the figures and keeps them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--networks", type=Path, required=True, help="folder of exported networks")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="instead of benchmarks/results/neighbours.json")
    given = parser.parse_args()
    paths = exported(given.networks, POOL, given.seed)[:: POOL // NETWORKS]
    os.environ.update(dict.fromkeys(SET, "1"))  # read when a process loads numpy
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = figures(*pool.submit(traced, paths, given.seconds, given.seed).result())
    show(found)
    networks = [path.name for path in paths]
    print(keep("neighbours", {"seconds": given.seconds, "networks": networks, **found}, given.out))


if __name__ == "__main__":
    main()
