"""Prediction on this host: networks of the space that were never measured, from their kernels.

A sample of networks has a seed. `tuned_on.json` names the networks that predictions were tuned on,
by their kernels; no other sample may hold one of them.

Truth is the ordinary measurement, three processes a network. Two ways of knowing kernels are
compared: `table`, where every kernel of the unseen networks was timed alone, and `laws`, where only
kernels of the calibration networks were, and the others follow from the laws of their classes. The
calibration networks are drawn anew many times, since the promise of an interval is over draws.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
from nas.hardware.prediction.microbench import distinct, time_kernels
from nas.hardware.prediction.predict import forecast
from nas.hardware.timing import measure, runtime_version

MEASURED, UNSEEN = 80, 60
DRAWS = 20
TUNED = Path(__file__).resolve().with_name("tuned_on.json")
TUNED_SEED = 20261121


def unseen(paths: Sequence[Path], nets: Sequence[Lowered]) -> list[int]:
    """Places of the networks that predictions were not tuned on: equal kernels, equal network."""
    tuned = set(json.loads(TUNED.read_text()))
    return [i for i, net in enumerate(nets) if fingerprint(net) not in tuned]


def fingerprint(network: Lowered) -> str:
    """Names a network by its kernels."""
    return digest(sorted(kernel.signature for kernel in network.kernels))[:16]


def host(
    folder: Path, int8: bool = False, seed: int = TUNED_SEED
) -> tuple[list[Score], dict[str, Any]]:
    """Measures, predicts, compares; the measurements are kept in `measured.json` of the folder."""
    device = load(find(DEVICES, "cpu"))
    paths = exported(folder, MEASURED + 4, seed)
    if seed != TUNED_SEED:
        fresh = unseen(paths, [lower(path, "onnxruntime") for path in paths])
        paths = [paths[i] for i in fresh]
    if int8:
        folder = folder / "int8"
        paths = quantized(paths, folder)
    lowered = {path: lower(path, "onnxruntime") for path in paths}
    # The slowest few are left out: on a shared host they never meet a quiet moment.
    paths = sorted(paths, key=lambda p: lowered[p].macs)[:MEASURED]
    nets = [lowered[path] for path in paths]
    kept = folder / "measured.json"
    found = json.loads(kept.read_text()) if kept.exists() else _measured(paths, nets, device)
    kept.write_text(json.dumps(found))
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


def _measured(paths: Sequence[Path], nets: Sequence[Lowered], device: Device) -> dict[str, Any]:
    """Latencies of networks and of every distinct kernel, under the lease of the device."""
    lease = Lease(default_folder(), device.seat)
    times, failed = time_kernels(distinct(nets), device, lease)
    found: dict[str, Any] = {}
    repeats = []
    for start in range(0, len(paths), 40):
        block = paths[start : start + 40]
        timed = measure(block, device, lease, basis="untrained form", processes=3)
        for path, timing in zip(block, timed, strict=True):
            if not isinstance(timing, str):
                processes = timing.record["processes_ms"]
                found[path.name] = {"ms": timing.value, "processes": processes}
                repeats.append(processes)
    table = np.array(repeats)
    noise = {
        "cv_between_processes": round(float(np.median(table.std(1, ddof=1) / table.mean(1))), 4),
        "tau_between_processes": round(kendall(table[:, 0], table[:, 1]), 4),
        "mape_between_processes": round(float(np.mean(abs(table[:, 0] / table[:, 1] - 1))), 4),
    }
    return {
        "networks": found, "kernels": times, "failed": dict(Counter(failed.values())),
        "noise": noise,
    }  # fmt: skip


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
