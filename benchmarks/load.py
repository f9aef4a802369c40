"""A load generator: all cores busy, then released, by a seeded schedule.

    python benchmarks/load.py --seconds 600 --share 0.33 --seed 1

A busy core multiplies matrices and copies a buffer larger than its own caches, without a pause, as
a neighbour's training would. Bursts last about 1 to 8 seconds, pauses so long that the bursts fill
the stated share of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np

Bursts = Sequence[tuple[float, float]]
SHORTEST_S, LONGEST_S = 1.0, 8.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BUFFER = 2_000_000  # numbers: 8 MB read, 8 MB written


def bursts(seconds: float, share: float = 1 / 3, seed: int = 0) -> list[tuple[float, float]]:
    """When the cores are busy, as (begin, end) in seconds from the start.

    Lengths of bursts and pauses are drawn; all bursts together last `share` of `seconds`.

    >>> found = bursts(600, seed=1)
    >>> round(sum(end - begin for begin, end in found) / 600, 2)
    0.33
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(seconds * share / ((SHORTEST_S + LONGEST_S) / 2)))
    lengths = rng.uniform(SHORTEST_S, LONGEST_S, count)
    lengths *= seconds * share / lengths.sum()
    pauses = rng.dirichlet(np.full(count + 1, 4.0)) * seconds * (1 - share)
    begins = np.cumsum(pauses[:-1]) + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    return [(float(b), float(b + n)) for b, n in zip(begins, lengths, strict=True)]


class Load(AbstractContextManager["Load"]):
    """Keeps every core busy during the bursts, from entering the context until leaving it.

    `begun` is when the schedule began, by `time.monotonic`.
    """

    def __init__(self, when: Bursts, cores: int | None = None) -> None:
        self.when = list(when)
        self.cores = cores or len(os.sched_getaffinity(0))

    def __enter__(self) -> Load:
        environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
        command = [sys.executable, __file__, "--work"]
        self._workers = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            for _ in range(self.cores)
        ]
        for worker in self._workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError("a process of the load generator did not start")
        self.begun = time.monotonic()
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write(json.dumps({"begun": self.begun, "when": self.when}) + "\n")
            worker.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.communicate()

    def share(self, begin: float, end: float) -> float:
        """The busy share of the time between two readings of `time.monotonic`."""
        first, last = begin - self.begun, end - self.begun
        busy = sum(max(0.0, min(b, last) - max(a, first)) for a, b in self.when)
        return busy / (last - first)


def work() -> None:
    """One core's part, told by a line on standard input."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((256, 256)).astype(np.float32)
    source = rng.standard_normal(BUFFER).astype(np.float32)
    product, target = np.empty_like(a), np.empty_like(source)
    print("ready", flush=True)
    told = json.loads(sys.stdin.readline())
    for begin, end in told["when"]:
        time.sleep(max(0.0, told["begun"] + begin - time.monotonic()))
        while time.monotonic() < told["begun"] + end:
            np.matmul(a, a, out=product)
            np.copyto(target, source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--share", type=float, default=1 / 3, help="of the time, busy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return
    when = bursts(given.seconds, given.share, given.seed)
    with Load(when) as load:
        for begin, end in when:
            time.sleep(max(0.0, load.begun + begin - time.monotonic()))
            print(f"{begin:7.1f} to {end:7.1f} s: {load.cores} cores busy", flush=True)
        time.sleep(max(0.0, load.begun + given.seconds - time.monotonic()))


if __name__ == "__main__":
    main()
