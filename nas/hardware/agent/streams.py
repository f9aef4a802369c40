"""How long a call takes while others are under way: several callers of one network at once.

Each caller has the file loaded for itself and calls without pause; all begin together. What is
measured is what each caller waits, so the core is shared, and no sample is left out: waiting for
the others is the point.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from .engines import load
from .watch import Watch, say

LEAST = 30  # calls of each caller


def measure(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Says the microseconds of every call of the job's one file, by caller, and of all together."""
    say("loading", file=0)
    try:
        with watch.over(0, job.get("load_s")):
            engines = [load(job["files"][0], job) for _ in range(job["streams"])]
        for engine in engines:
            with watch.over(0):
                engine.call()
        found = together(engines, job["protocol"])
    except Exception as error:
        say("failed", file=0, error=f"{type(error).__name__}: {error}"[:500])
    else:
        say("loaded", file=0)
        say("result", file=0, **found)
    return {}


def together(engines: list[Any], rules: dict[str, Any]) -> dict[str, Any]:
    """The calls of all engines, each in a thread of its own, for the protocol's seconds.

    The first calls, while threads begin and caches fill, are warm-up and left out. A caller that
    failed ends the measurement. Raises: RuntimeError with what it said.
    """
    samples: list[list[float]] = [[] for _ in engines]
    failed: list[str] = []
    barrier = threading.Barrier(len(engines))
    most = rules["call_cap_s"] * (LEAST + 1)
    start = [0.0]

    def caller(place: int) -> None:
        engine, own = engines[place], samples[place]
        try:
            barrier.wait()
            warm = time.perf_counter() + rules["warm_s"]
            while time.perf_counter() < warm:
                engine.call()
            if barrier.wait() == 0:
                start[0] = time.perf_counter()
            until = time.perf_counter() + rules["seconds"]
            while len(own) < LEAST or time.perf_counter() < until:
                begun = time.perf_counter_ns()
                engine.call()
                own.append((time.perf_counter_ns() - begun) / 1e3)
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
            barrier.abort()

    threads = [threading.Thread(target=caller, args=(i,), daemon=True) for i in range(len(engines))]
    # A thread that has its answer is to be let on at once, not after the interpreter's 5 ms.
    sys.setswitchinterval(1e-4)
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + most
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if failed or any(thread.is_alive() for thread in threads):
        raise RuntimeError(failed[0] if failed else f"a call outlasted {most:g} s")
    return {
        "samples": [[round(v, 1) for v in own] for own in samples],
        "seconds": round(time.perf_counter() - start[0], 4),
    }
