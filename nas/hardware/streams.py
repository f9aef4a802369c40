"""Latency under concurrency: what each of several callers waits for, in fresh processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware import timing
from nas.hardware.device import Device
from nas.hardware.lease import Lease
from nas.hardware.probe import conditions, probe, t90
from nas.hardware.protocol import Protocol

PROCESSES = 3
KEPT = 300
# Relative standard deviation between processes that is assumed beside what three of them show:
# callers that share cores meet the scheduler, as calls of several threads do.
ASSUMED = Protocol().between_shared


def concurrent(
    path: Path,
    device: Device,
    lease: Lease,
    workload: Workload,
    processes: int = PROCESSES,
    *,
    basis: str,
) -> Measurement | str:
    """`latency_ms` of a call of a file while `workload.streams` callers call it, or why none.

    The value is the median over processes of the median call; a call that had to wait is as much
    part of it as one that had not. `record` holds `p50_ms`, `p90_ms`, `p99_ms` over all callers,
    `calls_per_s` of all together, and evenly thinned samples. A further process falls between
    `low` and `high` with 90 %; the assumed deviation weighs as two observed ones.
    """
    sessions = []
    for _ in range(processes):
        session = probe(path, device, lease, workload, mode="streams", streams=workload.streams)
        if isinstance(session, str):
            return session
        sessions.append(session)
    calls = [np.concatenate(s.results[0]["samples"]) / 1e3 for s in sessions]
    medians = np.array([np.median(each) for each in calls])
    value = float(np.median(medians))
    squares = float(((np.log(medians) - np.log(medians).mean()) ** 2).sum())
    freedom = 2 + len(medians) - 1
    spread = value * float(np.sqrt((2 * ASSUMED**2 + squares) / freedom))
    se = spread * float(np.sqrt((1.35 if processes > 2 else 1.0) / processes))
    half = t90(freedom) * float(np.hypot(spread, se))
    everything = np.sort(np.concatenate(calls))
    thinned = everything[np.linspace(0, len(everything) - 1, KEPT).round().astype(int)]
    record = {
        **conditions(sessions[-1], device, workload),
        "runtime": device.engine.name,
        "runtime_versions": sessions[-1].start["runtime"],
        "streams": workload.streams,
        **{f"p{q}_ms": round(float(np.quantile(everything, q / 100)), 5) for q in (50, 90, 99)},
        "processes_ms": [round(float(m), 5) for m in medians],
        "calls_per_s": round(float(np.median([_rate(s.results[0]) for s in sessions])), 3),
        "samples_ms": [float(f"{v:.4g}") for v in thinned],
    }
    return Measurement(
        "latency_ms", value, "ms", max(0.0, value - half), value + half, se, len(everything),
        "measured", basis, record,
    )  # fmt: skip


def timings(
    files: Sequence[Path],
    device: Device,
    lease: Lease,
    workload: Workload,
    processes: int = 1,
    *,
    basis: str,
) -> list[Measurement | str]:
    """`latency_ms` of files under a workload, in order, or why one has none.

    All in turn; with several callers each file by itself. A file for another side has it for its
    own already: the workload's is what the records are named after.
    """
    bare = replace(workload, resolution=None)
    if workload.streams > 1:
        found = [concurrent(f, device, lease, bare, basis=basis) for f in files]
    else:
        found = timing.measure(files, device, lease, bare, processes, basis=basis)
    return [
        m if isinstance(m, str) else replace(m, record={**m.record, "workload": workload.name})
        for m in found
    ]


def _rate(result: dict[str, object]) -> float:
    """Calls of all callers in a second."""
    samples, seconds = result["samples"], result["seconds"]
    assert isinstance(samples, list) and isinstance(seconds, float)
    return float(sum(map(len, samples)) / seconds)
