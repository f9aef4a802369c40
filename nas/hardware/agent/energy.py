"""The energy of a file's calls, from counters that the hardware keeps, less what it takes idle.

Idle and busy windows alternate, each from one tick of the counter to another, so that how often it
ticks costs no accuracy. What is said is joules, seconds and calls of each window; the arithmetic is
the host side's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .engines import load
from .host import read
from .nvml import LIBRARY, Gpu, first_gpu
from .watch import Watch, say

POWERCAP = "/sys/class/powercap"
PATIENCE = 1.0  # seconds in which a counter that works has ticked
NAP = 0.001


class Counter(Protocol):
    """A counter of joules that only grows."""

    name: str

    def joules(self) -> float:
        """Since some moment. Raises: OSError where it can no longer be read."""
        ...


class Rapl:
    """The processor's packages and their memory, as Intel and AMD count them (powercap)."""

    def __init__(self, zones: list[Path]) -> None:
        self.zones = zones
        names = sorted({(read(zone / "name") or "").partition("-")[0] for zone in zones})
        self.name = "rapl " + "+".join(names)
        self.ranges = [int(read(zone / "max_energy_range_uj") or 0) for zone in zones]
        self.last = [int((zone / "energy_uj").read_text()) for zone in zones]
        self.total = 0

    def joules(self) -> float:
        """Microjoules added up, over wraps: a counter that fell has passed its range once."""
        for place, zone in enumerate(self.zones):
            now = int((zone / "energy_uj").read_text())
            grown = now - self.last[place]
            self.total += grown if grown >= 0 else grown + self.ranges[place]
            self.last[place] = now
        return self.total / 1e6


class Board:
    """A GPU's board, as NVIDIA's library counts it."""

    name = "nvml board"

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def joules(self) -> float:
        """Of the board since the driver was loaded."""
        found = self.gpu.millijoules()
        if found is None:
            raise OSError("the GPU's counter of energy can no longer be read")
        return found / 1e3


def counter(kind: str, powercap: str = POWERCAP, library: str | Any = LIBRARY) -> Counter:
    """The counter of a processor (`cpu`) or a GPU (`cuda`). Raises: OSError saying why none is."""
    if kind == "cuda":
        gpu = first_gpu(library)
        if gpu is None or gpu.millijoules() is None:
            raise OSError("NVIDIA's library shows no GPU with a counter of energy")
        return Board(gpu)
    zones = [
        zone
        for zone in sorted(Path(powercap).glob("intel-rapl:*"))
        if (read(zone / "name") or "").startswith(("package", "dram"))
    ]
    if not zones:
        raise OSError(f"no counter of energy in {powercap}")
    if any(read(zone / "energy_uj") is None for zone in zones):
        raise OSError(f"the counters in {powercap} may be read by root alone")
    return Rapl(zones)


def window(meter: Counter, work: Callable[[], object], seconds: float) -> tuple[float, float, int]:
    """Joules, seconds and repetitions of `work` between two ticks at least `seconds` apart.

    Raises: OSError where the counter stands still.
    """
    began, before, _ = tick(meter, work)
    calls = 0
    while time.monotonic() - began < seconds:
        work()
        calls += 1
    ended, after, more = tick(meter, work)
    return after - before, ended - began, calls + more


def tick(meter: Counter, work: Callable[[], object]) -> tuple[float, float, int]:
    """Works until the counter moves: when it did, what it showed then, how often `work` was done.

    Raises: OSError where it stands still.
    """
    start, before, calls = time.monotonic(), meter.joules(), 0
    while True:
        work()
        calls += 1
        now, shown = time.monotonic(), meter.joules()
        if shown != before:
            return now, shown, calls
        if now - start > PATIENCE and calls > 1:
            raise OSError(f"the counter of energy ({meter.name}) stands still")


def measure(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Says the windows of the job's one file: idle, busy, idle, busy, ..., idle."""
    say("loading", file=0)
    try:
        meter = counter(job.get("kind", "cpu"), job.get("powercap", POWERCAP))
        with watch.over(0, job.get("load_s")):
            engine = load(job["files"][0], job)

        def call() -> None:
            with watch.over(0):
                engine.call()

        window(meter, call, job["window_s"] / 2)  # warm: clocks and caches as in the middle
        windows = []
        for place in range(2 * job["rounds"] + 1):
            work = call if place % 2 else lambda: time.sleep(NAP)
            windows.append(window(meter, work, job["window_s"]))
    except Exception as error:
        say("failed", file=0, error=f"{type(error).__name__}: {error}"[:500])
    else:
        say("loaded", file=0)
        say("result", file=0, counter=meter.name, windows=windows)
    return {}
