"""Prediction on this host: networks of the space that were never measured, from their kernels.

A sample of networks has a seed. `tuned_on.json` names the networks that predictions were tuned on,
by their kernels; no other sample may hold one of them.

Truth is the ordinary measurement, three processes a network. Two ways of knowing kernels are
compared: `table`, where every kernel of the unseen networks was timed alone, and `laws`, where only
kernels of the calibration networks were, and the others follow from the laws of their classes. The
calibration networks are drawn anew many times, since the promise of an interval is over draws.

Exporting, quantizing and timing thousands of kernels takes more than a quarter of an hour, in int8
more than half of one. All of it is kept as it comes; a run ends after so many minutes, and the same
command goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from kept import Parts
from sampled import exported, quantized
from scores import Array, Roofline, Score, flops_line, kendall, mean, score, totals

from nas.api.calibrating import NOMINAL
from nas.catalog import DEVICES, find
from nas.core.architecture import digest
from nas.hardware.device import Device, host_fingerprint, load
from nas.hardware.lease import Lease, default_folder
from nas.hardware.prediction.calibrate import UNLIKE, choose_networks, fit_networks, with_times
from nas.hardware.prediction.calibration import Calibration
from nas.hardware.prediction.kernels import Kernel, Lowered, lower
from nas.hardware.prediction.microbench import BLOCK, distinct, time_kernels
from nas.hardware.prediction.predict import forecast
from nas.hardware.timing import measure, runtime_version

MEASURED, UNSEEN = 80, 60
DRAWS = 20
AT_ONCE = 20  # networks timed together
TUNED = Path(__file__).resolve().with_name("tuned_on.json")
TUNED_SEED = 20261121


def unseen(paths: Sequence[Path], nets: Sequence[Lowered]) -> list[int]:
    """Places of the networks that predictions were not tuned on: equal kernels, equal network."""
    tuned = set(json.loads(TUNED.read_text()))
    return [i for i, net in enumerate(nets) if fingerprint(net) not in tuned]


def fingerprint(network: Lowered) -> str:
    """Names a network by its kernels."""
    return digest(sorted(kernel.signature for kernel in network.kernels))[:16]


class Later(Exception):
    """The time is up before all is measured; says what is."""


@dataclass(frozen=True)
class Clock:
    """When a run ends; looked at between two steps."""

    until: float

    def look(self, what: str, done: int, of: int) -> None:
        """Raises: Later where the time is up and something is left."""
        if done < of:
            print(f"{what}: {done} of {of}", file=sys.stderr, flush=True)
            if time.monotonic() > self.until:
                raise Later(f"{what}: {done} of {of}; the same command goes on from there")


def host(
    folder: Path,
    int8: bool = False,
    seed: int = TUNED_SEED,
    minutes: float = 11.0,
    networks: int = MEASURED,
) -> tuple[list[Score], dict[str, Any]]:
    """Measures, predicts, compares; the measurements are kept in `measured.json` of the folder.

    Raises: Later where the minutes are over first.
    """
    clock = Clock(time.monotonic() + 60 * minutes)
    device = load(find(DEVICES, "cpu"))
    paths: list[Path] = []
    while len(paths) < networks + 4:
        paths = exported(folder, min(len(paths) + 6, networks + 4), seed)
        clock.look("exported", len(paths), networks + 4)
    if seed != TUNED_SEED:
        fresh = unseen(paths, [lower(path, "onnxruntime") for path in paths])
        paths = [paths[i] for i in fresh]
    if int8:
        folder = folder / "int8"
        for start in range(0, len(paths), 6):
            quantized(paths[start : start + 6], folder)
            clock.look("quantized", min(start + 6, len(paths)), len(paths))
        paths = quantized(paths, folder)
    lowered = {path: lower(path, "onnxruntime") for path in paths}
    # The slowest few are left out: on a shared host they never meet a quiet moment.
    paths = sorted(paths, key=lambda p: lowered[p].macs)[:networks]
    nets = [lowered[path] for path in paths]
    kept = folder / "measured.json"
    whole = kept.exists()
    found = json.loads(kept.read_text()) if whole else _measured(paths, nets, device, kept, clock)
    alive = [i for i, p in enumerate(paths) if p.name in found["networks"]]
    us = 1e3 * np.array([found["networks"][paths[i].name]["ms"] for i in alive])
    scores = list(_compare([nets[i].kernels for i in alive], us, found["kernels"], device))
    facts = {
        "versions": {"runtime": runtime_version(device)},
        "host": host_fingerprint(),
        "seed": seed,
        "fresh": seed != TUNED_SEED,
        "networks": len(alive),
        "factor": round(float(us.max() / us.min()), 1),
        "latency_ms": [round(float(v) / 1e3, 3) for v in (us.min(), np.median(us), us.max())],
        "noise": found["noise"],
        "kernels_timed": len(found["kernels"]),
        "failed": found["failed"],
        "draws": DRAWS,
    }
    return scores, facts


def _measured(
    paths: Sequence[Path], nets: Sequence[Lowered], device: Device, kept: Path, clock: Clock
) -> dict[str, Any]:
    """Latencies of networks and of every distinct kernel, under the lease of the device."""
    lease = Lease(default_folder(), device.seat)
    parts = Parts(kept.with_suffix(".part.json"), hours=72.0)
    processes: dict[str, list[float]] = {}
    for start in range(0, len(paths), AT_ONCE):
        block = paths[start : start + AT_ONCE]
        processes |= parts.get(f"networks {start}", partial(_timed, block, device, lease))
        clock.look("networks", min(start + AT_ONCE, len(paths)), len(paths))
    chosen = list(distinct(nets).items())
    times, failed = {}, Counter[str]()
    for start in range(0, len(chosen), BLOCK):
        block_of = dict(chosen[start : start + BLOCK])
        us, why = parts.get(f"kernels {start}", partial(time_kernels, block_of, device, lease))
        times |= us
        failed.update(why.values())
        clock.look("kernels", min(start + BLOCK, len(chosen)), len(chosen))
    table = np.array(list(processes.values()))
    noise = {
        "cv_between_processes": round(float(np.median(table.std(1, ddof=1) / table.mean(1))), 4),
        "tau_between_processes": round(kendall(table[:, 0], table[:, 1]), 4),
        "mape_between_processes": round(float(np.mean(abs(table[:, 0] / table[:, 1] - 1))), 4),
    }
    networks = {n: {"ms": float(np.median(v)), "processes": v} for n, v in processes.items()}
    found = {"networks": networks, "kernels": times, "failed": dict(failed), "noise": noise}
    kept.write_text(json.dumps(found))
    parts.done()
    return found


def _timed(paths: Sequence[Path], device: Device, lease: Lease) -> dict[str, list[float]]:
    """Milliseconds of each network in each of three processes; without those that failed."""
    found = measure(paths, device, lease, basis="untrained form", processes=3)
    rows = zip(paths, found, strict=True)
    return {p.name: m.record["processes_ms"] for p, m in rows if not isinstance(m, str)}


def _compare(
    nets: Sequence[Sequence[Kernel]], us: Array, times: dict[str, float], device: Device
) -> Iterator[Score]:
    """Every method, with 3, 12 and 20 calibration networks; figures are means over the draws."""
    known = {k.signature: k for kernels in nets for k in kernels}
    empty = Calibration((device.name,), "onnxruntime", "", NOMINAL)
    full = with_times(empty, device, known, {s: t for s, t in times.items() if s in known})
    flops, roof = totals(nets), Roofline.of(nets)
    for count in (3, 12, 20):
        rows: dict[tuple[str, str], list[Score]] = {}
        for draw in range(DRAWS):
            chosen = np.array(choose_networks(nets, device, full, count, seed=draw))
            rest = np.random.default_rng(draw).permutation(
                np.setdiff1d(np.arange(len(us)), chosen)
            )[:UNSEEN]
            own = {k.signature for i in chosen for k in nets[i]}
            part = with_times(empty, device, known, {s: t for s, t in times.items() if s in own})
            line = flops_line(flops[chosen], us[chosen], flops[rest])
            bound = roof.take(chosen).fitted(us[chosen], roof.take(rest))
            where = ("host", device.name, f"{count} networks")
            found = [
                score(where, "FLOPs line", "fitted", us[rest], line),
                score(where, "FLOPs+bytes roofline", "fitted", us[rest], bound),
                *_ours(where, "ours, table", full, nets, us, chosen, rest, device),
                *_ours(where, "ours, laws", part, nets, us, chosen, rest, device),
            ]
            for row in found:
                rows.setdefault((row.method, row.basis), []).append(row)
        yield from (mean(found) for found in rows.values())


def _ours(
    where: tuple[str, str, str],
    method: str,
    start: Calibration,
    nets: Sequence[Sequence[Kernel]],
    us: Array,
    chosen: Any,
    rest: Any,
    device: Device,
) -> Iterator[Score]:
    """All unseen networks together, then those of each basis where there are several."""
    fitted = fit_networks(start, device, [nets[i] for i in chosen], us[chosen] / 1e3, UNLIKE)
    found = [forecast(nets[i], device, fitted) for i in rest]
    predicted = np.array([f.us for f in found])
    factor = np.array([f.factor for f in found])
    bases = np.array([f.basis for f in found])
    yield score(where, method, "all", us[rest], predicted, factor)
    for basis in sorted(set(bases)):
        part = bases == basis
        if part.sum() >= 10:
            yield score(where, method, basis, us[rest][part], predicted[part], factor[part])
