"""The machine under a measurement: what may change, and what the process may take."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any


def read(path: str) -> str | None:
    """The text of a small file of the kernel's, or None where there is none."""
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return None


def state() -> dict[str, Any]:
    """What may change under a measurement: clock, governor, temperature, load."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    lines = (read("/proc/cpuinfo") or "").splitlines()
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    heat = read("/sys/class/thermal/thermal_zone0/temp")
    return {
        "load": [round(v, 2) for v in os.getloadavg()],
        "mhz": [round(v) for v in clocks] or None,
        "governor": read(cpu + "scaling_governor"),
        "celsius": float(heat) / 1000 if heat else None,
    }


def restrain(seconds: float, memory: int | None) -> None:
    """Limits of the whole process: it dies by itself, with its parent, and within its memory."""
    signal.alarm(int(seconds) + 1)
    if memory:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: without it an orphan would go on timing while others train.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
