"""Which small piece of work tells when a shared machine's others slow a network down.

    python benchmarks/neighbours.py --networks FOLDER [--seconds 180] [--seed 7]

Four networks of the space `largekernel` and the candidates for the reference kernel are timed in
turn on one thread: the exponentials that it is, the matrix product and copy that it was, and a copy
from far in memory. Of each candidate is said how much longer it takes behind the network that
empties its caches most than behind the one that does so least (where that is much, what is quiet
cannot be said once for a machine); how much its time rises when a network is slowed by more than a
tenth, beside the noise it has anyway (the upper tenth while the network is calm); and how far
estimates of five seconds each spread when the protocol's gate looks at it, as narrow as it is now
and as wide as it was (1.25): the coefficient of variation of each network, in the mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
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

from nas.hardware.agent.estimates import estimate
from nas.hardware.agent.reference import AGAIN, ROUNDS, Reference
from nas.hardware.hosts import SET
from nas.hardware.protocol import Protocol

NETWORKS, POOL = 4, 8
GROUP_S, VISIT_S, WINDOW_S = 0.002, 0.012, 5.0
CALM, SLOWED = 1.05, 1.1  # times the network's lower tenth
WIDE = 1.25
RULES = dataclasses.asdict(Protocol())
Kernel = Callable[[], Any]


def kernels() -> dict[str, tuple[Kernel, Kernel]]:
    """Each candidate: what comes first and is not timed, and what is."""
    reference, rng = Reference(), np.random.default_rng(0)
    left, right = (rng.standard_normal((128, 128)).astype(np.float32) for _ in range(2))
    source = rng.standard_normal(32768).astype(np.float32)
    product, target = np.empty_like(left), np.empty_like(source)
    far = itertools.cycle(rng.standard_normal((64, 32768)).astype(np.float32))

    def former() -> None:
        np.matmul(left, right, out=product)
        np.copyto(target, source)

    def work(rounds: int) -> Kernel:
        return lambda: reference._work(rounds)

    return {
        "exponentials": (work(AGAIN), work(ROUNDS)),
        "product and copy": (work(0), former),
        "copy from afar": (work(0), lambda: np.copyto(target, next(far))),
    }


def _timed(kernel: tuple[Kernel, Kernel]) -> float:
    first, work = kernel
    first()
    return _us(work)


def _us(work: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / 1e3


def traced(paths: list[Path], seconds: float, seed: int) -> dict[str, Array]:
    """Of each group of calls: when, its network, the median, and the slower of each kernel's runs.

    The kernels run before and after it.
    """
    calls = [session(str(path))[1] for path in paths]
    typical = [min(_us(call) for _ in range(20)) for call in calls]
    each = list(kernels().values())
    rng = np.random.default_rng(seed)
    which, rows = [], []
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for place in rng.permutation(len(calls)):
            group = max(1, int(1e6 * GROUP_S / typical[place]))
            before = [_timed(kernel) for kernel in each]
            for _ in range(max(1, round(1e6 * VISIT_S / typical[place] / group))):
                took = float(np.median([_us(calls[place]) for _ in range(group)]))
                after = [_timed(kernel) for kernel in each]
                which.append(place)
                rows.append([time.monotonic() - began, took, *map(max, before, after)])
                before = after
    at, took, *refs = np.array(rows).T
    return {"at": at, "network": np.array(which), "us": took, "refs": np.array(refs)}


def figures(found: dict[str, Array]) -> dict[str, Any]:
    """How often the networks were slowed, and what each candidate makes of it."""
    own = [found["network"] == place for place in range(NETWORKS)]
    slow = np.empty(found["us"].size)
    for mask in own:
        slow[mask] = found["us"][mask] / np.quantile(found["us"][mask], 0.1)
    calm, slowed = slow <= CALM, slow > SLOWED
    rows: dict[str, Any] = {"none": {"spread": _spread(found, np.ones(slow.size))}}
    for name, refs in zip(kernels(), found["refs"], strict=True):
        base = float(np.quantile(refs, 0.1))
        rows[name] = {
            "us": base,
            "behind": max(tenths := [float(np.quantile(refs[m], 0.1)) for m in own]) / min(tenths),
            "noise": float(np.quantile(refs[calm], 0.9)) / base,
            "rises": float(np.median(refs[slowed])) / base if slowed.any() else None,
            "spread": _spread(found, refs),
            "spread_wide": _spread(found, refs, WIDE),
        }
    times = float(np.median(slow[slowed])) if slowed.any() else None
    return {"groups": slow.size, "calm": float(calm.mean()), "slowed": float(slowed.mean()),
            "slowed_times": times, "kernels": rows}  # fmt: skip


def _spread(found: dict[str, Array], refs: Array, gate: float = RULES["gate"]) -> float:
    """The coefficient of variation of the estimates of windows, a mean over the networks."""
    window = (found["at"] // WINDOW_S).astype(int)
    passes, away = np.arange(window.size), np.zeros(window.size)
    base = float(np.quantile(refs, 0.1))
    rules, spreads = RULES | {"gate": gate}, []
    for place in range(NETWORKS):
        values = []
        for number in range(window.max()):
            m = (window == number) & (found["network"] == place)
            values.append(
                estimate(found["us"][m], refs[m], passes[m], away[m], base, rules)["value"]
            )
        spreads.append(np.std(values, ddof=1) / np.mean(values))
    return float(np.mean(spreads))


def show(found: dict[str, Any]) -> None:
    """The figures as a table."""
    times = found["slowed_times"]
    slowed = f"{found['slowed']:.0%} slowed" + (
        f", {times:.2f} times at the median" if times else ""
    )
    print(f"{found['groups']} groups of calls: {found['calm']:.0%} calm, {slowed}")
    print(f"{'':20}{'us':>7}{'behind':>8}{'noise':>8}{'rises':>8}{'spread':>9}{'wide':>8}")
    for name, row in found["kernels"].items():
        said = [row.get(key) for key in ("us", "behind", "noise", "rises")]
        us, *ratios = ("-" if v is None else f"{v:.2f}" for v in said)
        spreads = f"{row['spread']:9.2%}{row.get('spread_wide', row['spread']):8.2%}"
        print(f"{name:20}{us:>7}{''.join(f'{v:>8}' for v in ratios)}{spreads}")


def main() -> None:
    """Traces, prints the figures and keeps them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--networks", type=Path, required=True, help="folder of exported networks")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="instead of benchmarks/results/neighbours.json")
    given = parser.parse_args()
    paths = exported(given.networks, POOL, given.seed)[:: POOL // NETWORKS]
    os.environ.update(dict.fromkeys(SET, "1"))  # read when a process loads numpy
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = figures(pool.submit(traced, paths, given.seconds, given.seed).result())
    show(found)
    networks = [path.name for path in paths]
    print(keep("neighbours", {"seconds": given.seconds, "networks": networks, **found}, given.out))


if __name__ == "__main__":
    main()
