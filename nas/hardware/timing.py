"""Latency of exported files on this host: leased, gated, interleaved, with an interval.

The measuring itself happens in `nas.hardware.agent`, a fresh process for each batch; this side
turns samples into `Measurement`s by one code path for every device and runner. Why a low quantile
of gated samples, shuffled passes and two terms of doubt: on a shared host a median of one block
repeats within 10-15 %, this within 1-4 %, and the spread inside one process is at most half of the
spread between processes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware import runtimes
from nas.hardware.agent.host import environment, throttling
from nas.hardware.agent.workplace import workplace
from nas.hardware.anchors import write_anchors
from nas.hardware.device import Device, attached, host_fingerprint, host_id
from nas.hardware.history import REFERENCE
from nas.hardware.hosts import SET
from nas.hardware.interval import (
    between,
    interval,
    learnt,
    quiet,
    reached,
    relative,
    rescaled,
    taken,
    within,
)
from nas.hardware.lease import Lease
from nas.hardware.past import past
from nas.hardware.protocol import Protocol, unsettled
from nas.hardware.repeats import digest_of
from nas.hardware.runs import Run, run, slower
from nas.hardware.samples import packed
from nas.hardware.session import Asked, Session

QUANTILES = ("p50", "p90", "p95", "p99")
PROTOCOL = Protocol().version


def measure(
    files: Sequence[Path],
    device: Device,
    lease: Lease,
    workload: Workload | None = None,
    processes: int = 1,
    protocol: Protocol | None = None,
    *,
    basis: str,
    seed: int = 0,
) -> list[Measurement | str]:
    """`latency_ms` of each file, or the reason why there is none, in the order given.

    The files are timed together, interleaved, in `processes` fresh processes, each under the lease
    (finalists deserve three). A file that fails, hangs or kills the agent fails alone. The value is
    of one call with `workload.batch` examples, in milliseconds; `record` holds quantiles, samples,
    versions and state of the host.

    Each file is one that the device's runtime takes (`nas.deploy.forms`); of another it says so.
    Raises: NasError if the device is not attached or its runtime is not installed.
    """
    workload, protocol = workload or Workload(), protocol or Protocol()
    _refuse(device)
    before = host_fingerprint(device)
    known = past(lease, device, workload, protocol, runtime_version(device))
    usual = known.anchors.usual()
    absent = {i: f"no such file: {path}" for i, path in enumerate(files) if not path.is_file()}
    sizes = [0.0 if i in absent else path.stat().st_size / 1e6 for i, path in enumerate(files)]
    here = device.kind == "cpu" and device.address is None
    wide = here and max(sizes, default=0.0) > protocol.small_mb
    with workplace("anchors") as folder:
        asked = Asked(
            tuple(files), write_anchors(folder, device.engine, wide), device, lease, workload,
            protocol, seed, {"usual_us": known.reference.usual().get(REFERENCE)},
        )  # fmt: skip
        runs, reasons = _runs(asked, processes, absent)
    for each in runs:
        _refuse_another(device, each.session)
        known.remember(each, protocol)
    common = {
        "protocol": protocol.version,
        "device": device.name,
        "workload": workload.name,
        "batch": workload.batch,
        "threads": device.threads,
        "cores": list(device.cores),
        **_ran(device),
        "host": host_id(device),
        "fingerprint": before,
        "host_changed": any(_another_host(each.session, before) for each in runs),
        "slower_than_usual": slower(runs, usual),
    }
    spread = between(runs, known.anchors, protocol, device.threads)
    taken_ms = taken(runs, known.wide, protocol)
    stated = {
        i: _measurement(i, runs, spread, common, protocol, basis, taken_ms * reached(mb, protocol))
        for i, mb in enumerate(sizes)
        if i not in reasons
    }
    scale = learnt(known.repeats, {digest_of(files[i]): m for i, m in stated.items()})
    return [reasons[i] if i in reasons else rescaled(stated[i], scale) for i in range(len(files))]


def _runs(asked: Asked, processes: int, absent: dict[int, str]) -> tuple[list[Run], dict[int, str]]:
    """So many processes of all files, and why some are in none; a file that failed is left."""
    runs: list[Run] = []
    reasons = dict(absent)
    for process in range(processes):
        alive = [i for i in range(len(asked.files)) if i not in reasons]
        if not alive:
            break
        found, failures = run(asked, alive, asked.seed + 1000 * process)
        reasons |= failures
        runs += found
    return runs, reasons


def runtime_version(device: Device) -> str:
    """What a timing on this device is filed under: `onnxruntime 1.31.1, 1 thread`.

    On an accelerator threads matter little; that it was not the processor matters: `on cuda`.
    """
    _refuse(device)
    where = f"{device.threads} thread{'' if device.threads == 1 else 's'}"
    if device.kind != "cpu":
        where = f"on {device.kind}"
    if device.cores:
        where += f" on core {'+'.join(map(str, device.cores))}"
    options = "".join(f" {option}" for option in device.options)
    version = device.host.versions(device.runtime)[device.runtime]
    told = {} if device.address else environment()
    under = "".join(f", {n}={v}" for n, v in told.items() if n not in SET)
    return f"{device.runtime} {version}{options}, {where}{under}"


def _ran(device: Device) -> dict[str, Any]:
    """What ran the files, as a record says it; `emulated` where the processor lacks the type."""
    engine = device.engine
    return {
        "runtime": engine.name,
        "options": list(engine.options),
        "dtype": engine.precision,
        "layout": engine.layout,
        "emulated": runtimes.emulated(engine, device.kind) if device.address is None else None,
    }


def _refuse(device: Device) -> None:
    if not attached(device):
        raise NasError(
            f"device {device.name!r} ({device.title}) is not attached to this host",
            "measure on --device cpu, or let its latency be predicted",
        )
    if device.address is None:
        runtimes.require(device.engine, device.kind)
    else:
        device.host.versions(device.runtime)  # says what is lacking there


def _refuse_another(device: Device, session: Session) -> None:
    """Raises NasError where the runtime that ran is not the one that the number is filed under."""
    filed = _number(device.host.versions(device.runtime)[device.runtime])
    ran = _number(session.start["runtime"].get(device.runtime, ""))
    if filed and ran and filed != ran:
        raise NasError(
            f"{device.runtime} is {filed} here, and {ran} in the process that measures",
            f"two are installed: pip uninstall {device.runtime}, till there is none, and install "
            "it again",
        )


def _number(version: str) -> str:
    """A version without what its builder added.

    >>> _number("2026.4.1-22982-e213"), _number("2.13.0+cpu")
    ('2026.4.1', '2.13.0')
    """
    found = re.match(r"\d+(\.\d+)*", version)
    return found[0] if found else ""


def _another_host(session: Session, before: dict[str, Any]) -> bool:
    """Whether the measuring process, at its start or its end, saw another machine or driver."""
    seen = (session.start.get("fingerprint", before), session.end.get("fingerprint", before))
    return any(found != before for found in seen)


def _measurement(
    index: int,
    runs: list[Run],
    spread: tuple[float, str],
    common: dict[str, Any],
    rules: Protocol,
    basis: str,
    taken_ms: float = 0.0,
) -> Measurement:
    """One file's number: the median of its processes, with their doubt and what they share."""
    own = [r for r in runs if index in r.estimates]
    found = [r.estimates[index] for r in own]
    value = float(np.median([f["value"] for f in found])) / 1e3
    se = value * relative(found, spread, taken_ms / value, rules)
    low, high = interval(value, se)
    doubts = _doubts(found, own, common.get("slower_than_usual"), rules)
    record = {
        **common,
        **{f"{q}_ms": _ms(np.median([f[q] for f in found])) for q in QUANTILES},
        "kept": sum(f["kept"] for f in found),
        "n": sum(f["n"] for f in found),
        "passes": [f["passes"] for f in found],
        "processes_ms": [_ms(f["value"]) for f in found],
        "quiet": round(quiet(found), 4),
        "within": round(within(found), 5),
        "between": round(spread[0], 5),
        "between_is": spread[1],
        "caches": round(taken_ms / value, 5),
        "noisy": any(f["noisy"] for f in found),
        "converged": not doubts,
        "unsettled": doubts,
        "sessions": [_conditions(r, index) for r in own],
    }
    return Measurement(
        "latency_ms", value, "ms", low, high, se, record["kept"], "measured", basis, record
    )


def _doubts(
    found: list[dict[str, Any]], own: list[Run], slow: float | None, rules: Protocol
) -> list[str]:
    """Why a number has not converged in one of its processes, in words; empty where it has."""
    why = [words for f, r in zip(found, own, strict=True) for words in unsettled(f, r.drift, rules)]
    if slow is not None and slow > rules.slow:
        why.append(f"the anchors took {slow:.2f} times as long as they usually do here")
    return list(dict.fromkeys(why))


def _conditions(run: Run, index: int) -> dict[str, Any]:
    """What one session saw: every call, anchors, the host before and after."""
    result = run.session.results[index]
    start, end = run.session.start, run.session.end
    return {
        "samples": packed(result),
        "load_s": result["load_s"],
        "first_call_ms": result["first_ms"],
        "anchors_ms": {n: _ms(f["value"]) for n, f in run.estimates.items() if isinstance(n, str)},
        "reference_us": end["reference_us"],
        "quiet_us": end["quiet_us"],
        "drift": round(run.drift, 4),
        "repeated": run.repeated,
        "runtime": start["runtime"],
        "versions": start["versions"],
        "affinity": start["affinity"],
        "environment": start.get("environment", {}),
        "before": start["state"],
        "after": end["state"],
        "throttled": throttling(start["state"], end["state"]),
        "seconds": round(end["warm_s"] + end["pass_s"], 2),
    }


def _ms(microseconds: Any) -> float:
    return round(float(microseconds) / 1e3, 5)
