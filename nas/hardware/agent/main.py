"""From a job on standard input to lines on standard output."""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import VERSION, energy, layers, memory, streams
from .engines import versions
from .fingerprint import fingerprint
from .host import environment, pin, restrain, state
from .passes import run_passes, warmed
from .reference import Reference
from .watch import Watch, say


def main() -> None:
    """Reads the job, measures, writes the lines."""
    job = json.loads(sys.stdin.read())
    rules = job["protocol"]
    # CUDA's own order is by speed: the first GPU would not be the one whose clocks are recorded.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    restrain(job["seconds"], job.get("memory_share"))
    pin(job.get("cores", []))
    watch = Watch(rules["call_cap_s"])
    watch.start()
    gc.disable()
    say(
        "start",
        agent=VERSION,
        runtime=versions(job),
        versions={"python": platform.python_version(), "numpy": np.__version__},
        threads=job["threads"],
        affinity=sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        environment=environment(),
        fingerprint=fingerprint(),
        state=state(),
    )
    ended = MODES[job.get("mode", "time")](job, watch)
    say("end", state=state(), fingerprint=fingerprint(again=True), **ended)


def timed(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Says the samples of every network, timed together."""
    reference = Reference(job.get("usual_us"))
    for _ in range(100):
        reference.run()
    start = time.perf_counter()
    networks = warmed(job, watch)
    ready = time.perf_counter()
    if networks:
        reference.series.clear()  # it was getting warm
        networks = run_passes(networks, job, reference)
    for n in networks:
        say(
            "result",
            file=n.index,
            load_s=round(n.load_s, 4),
            first_ms=round(n.first_ms, 3),
            done=n.done,
            samples=[round(v, 1) for v in n.samples],
            refs=[round(v, 1) for v in n.refs],
            passes=n.passes,
            away=[round(v, 1) for v in n.away],
        )
    return {
        "reference_us": round(reference.own, 2),
        "quiet_us": round(reference.base, 2),
        "warm_s": round(ready - start, 3),
        "pass_s": round(time.perf_counter() - ready, 3),
    }


# What the process does with the files; all but the first take one file.
MODES: dict[str, Callable[[dict[str, Any], Watch], dict[str, Any]]] = {
    "time": timed,
    "memory": memory.measure,
    "energy": energy.measure,
    "layers": layers.measure,
    "streams": streams.measure,
}
