"""The most memory that a file takes while it is loaded and run, measured in fresh processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware.device import Device
from nas.hardware.lease import Lease
from nas.hardware.probe import conditions, probe, t90

PAGE = 4096  # the resident set is known to a page
REPEATS = 5  # where a process lies in memory alone moves its peak by some per cent


def peak_memory(
    path: Path,
    device: Device,
    lease: Lease,
    workload: Workload | None = None,
    repeats: int = REPEATS,
    *,
    basis: str,
) -> Measurement | str:
    """`peak_memory_mb` of a file: 10^6 bytes beyond the runtime's own, or why there is no number.

    The mean of `repeats` fresh processes; a further one falls between `low` and `high` with 90 %
    (Student's t). Weights, what the runtime makes of them, and activations are in it; the runtime
    itself is `record["runtime_mb"]`, so that a process needs the sum of the two. On the processor
    it is the resident set, on a CUDA device what torch's allocator handed out.
    """
    workload = workload or Workload()
    sessions = []
    for _ in range(repeats):
        session = probe(path, device, lease, workload, mode="memory")
        if isinstance(session, str):
            return session
        sessions.append(session)
    found = [session.results[0] for session in sessions]
    peaks = [max(f["loading"], f["running"]) / 1e6 for f in found]
    value = float(np.mean(peaks))
    # What is known to a page is off by PAGE / sqrt(12) on average.
    deviation = float(np.hypot(np.std(peaks, ddof=1), PAGE / 1e6 / 12**0.5))
    half = t90(repeats - 1) * deviation * (1 + 1 / repeats) ** 0.5
    record = {
        **conditions(sessions[-1], device, workload),
        "what": found[0]["what"],
        "repeats_mb": [round(p, 3) for p in peaks],
        "runtime_mb": _mb(found, "runtime"),
        "loading_mb": _mb(found, "loading"),
        "running_mb": _mb(found, "running"),
        "resident_mb": _mb(found, "after"),
    }
    return Measurement(
        "peak_memory_mb", value, "10^6 bytes", max(0.0, value - half), value + half,
        deviation / repeats**0.5, repeats, "measured", basis, record,
    )  # fmt: skip


def _mb(found: list[dict[str, Any]], name: str) -> float:
    return round(float(np.mean([f[name] for f in found])) / 1e6, 3)
