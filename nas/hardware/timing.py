"""Latency of exported files on this host: leased, gated, interleaved, with an interval.

The measuring itself happens in `nas.hardware.agent`, a fresh process for each batch; this side
turns samples into `Measurement`s by one code path for every device and runner. Why a low quantile
of gated samples, shuffled passes and two terms of doubt: on a shared host a median of one block
repeats within 10-15 %, this within 1-4 %, and the spread inside one process is at most half of the
spread between processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.architecture import digest
from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Z90, Measurement
from nas.hardware import runtimes
from nas.hardware.agent.estimates import estimate
from nas.hardware.agent.host import environment, throttling
from nas.hardware.agent.workplace import workplace
from nas.hardware.anchors import WIDE, write_anchors
from nas.hardware.device import Device, attached, host_fingerprint, host_id
from nas.hardware.history import REFERENCE, AnchorHistory, by_name
from nas.hardware.hosts import SET
from nas.hardware.lease import Lease, private, shared
from nas.hardware.protocol import Protocol, jitters, unsettled
from nas.hardware.samples import SERIES, packed
from nas.hardware.session import Asked, Session, sessions

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
    reasons: dict[int, str] = {}
    for index, path in enumerate(files):
        if not path.is_file():
            reasons[index] = f"no such file: {path}"
    runs: list[Run] = []
    history, quiet = _history(lease, device, workload, protocol), _quiet(lease, device, protocol)
    usual = history.usual()
    sizes = [path.stat().st_size / 1e6 if path.is_file() else 0.0 for path in files]
    here = device.kind == "cpu" and device.address is None
    wide = here and max(sizes, default=0.0) > protocol.small_mb
    with workplace("anchors") as folder:
        asked = Asked(
            tuple(files), write_anchors(folder, device.engine, wide), device, lease, workload,
            protocol, seed, {"usual_us": quiet.usual().get(REFERENCE)},
        )  # fmt: skip
        for process in range(processes):
            alive = [i for i in range(len(files)) if i not in reasons]
            if not alive:
                break
            found, failures = run(asked, alive, seed + 1000 * process)
            reasons |= failures
            runs += found
    for each in runs:
        _refuse_another(device, each.session)
        _remember(history, quiet, each, protocol)
    spread = between(runs, history, protocol, device.threads)
    taken_ms = _taken(runs, _wide(lease, device, workload, protocol), protocol)
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
    return [
        reasons[i]
        if i in reasons
        else _measurement(
            i, runs, spread, common, protocol, basis, taken_ms * _reached(sizes[i], protocol)
        )
        for i in range(len(files))
    ]


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


def slower(runs: Sequence[Run], usual: Mapping[str, float]) -> float | None:
    """How many times longer than in earlier sessions here an anchor took; None without any.

    The reference kernel shows who takes the vector units; this shows memory and caches too.
    """
    found = [each.estimates[n]["value"] / usual[n] for each in runs for n in usual
             if n in each.estimates]  # fmt: skip
    return round(float(np.median(found)), 3) if found else None


# --- statistics --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A session that ended: estimates by candidate's index and anchor's name, and its drift.

    What the wide anchor took is apart: neighbours move it, and it is compared with nothing.
    """

    session: Session
    estimates: dict[int | str, dict[str, Any]]
    drift: float
    repeated: bool
    wide_us: float | None = None

    @property
    def files(self) -> list[int]:
        """The candidates' indices."""
        return [name for name in self.estimates if isinstance(name, int)]

    @property
    def quiet(self) -> float:
        """The share of samples that passed the gate."""
        return float(np.mean([found["quiet"] for found in self.estimates.values()]))

    def steady(self, index: int, rules: Protocol) -> bool:
        """Whether neither the anchors beside a file drifted nor its own calls jittered."""
        return self.drift <= rules.drift and not jitters(self.estimates[index], rules)


def run(asked: Asked, alive: list[int], seed: int) -> tuple[list[Run], dict[int, str]]:
    """Times the files in a fresh process; those that it leaves unsteady in a second one.

    All of them are where an anchor drifted beyond its bound, else those whose calls jittered. Of
    two unsteady processes the one counts in which more samples passed the gate.
    """
    reasons: dict[int, str] = {}
    tried: list[Run] = []
    for repeated in (False, True):
        found, failures = sessions(asked, alive, seed + repeated)
        reasons |= failures
        tried += [summary(session, asked.protocol, repeated) for session in found]
        steady = {i for r in tried for i in r.files if r.steady(i, asked.protocol)}
        alive = [i for i in alive if i not in steady and i not in reasons]
        if not alive:
            break
    return _chosen(tried, asked.protocol), reasons


def _chosen(tried: list[Run], rules: Protocol) -> list[Run]:
    """Each file in the one run that counts, with that run's anchors; runs without any are left."""
    best: dict[int, Run] = {}
    for each in sorted(tried, key=lambda r: r.quiet):
        best |= {i: each for i in each.files if i not in best or not best[i].steady(i, rules)}
    return [
        dataclasses.replace(r, estimates={
            n: e for n, e in r.estimates.items() if isinstance(n, str) or best[n] is r
        })
        for r in tried if any(b is r for b in best.values())
    ]  # fmt: skip


def summary(session: Session, rules: Protocol, repeated: bool = False) -> Run:
    """The estimates of a session, and how far its anchors moved from one half to the other."""
    base = session.end["quiet_us"]
    plain = dataclasses.asdict(rules)
    estimates, drift, wide_us = {}, 0.0, None
    for name, result in session.results.items():
        samples, refs, passes, away = (np.array(result[k]) for k in SERIES)
        found = estimate(samples, refs, passes, away, base, plain)
        if name == WIDE:
            wide_us = found["value"]
            continue
        estimates[name] = found
        if isinstance(name, str) and passes.max() > 0:
            early = passes <= passes.max() // 2
            first, last = (
                estimate(samples[m], refs[m], passes[m], away[m], base, plain)["value"]
                for m in (early, ~early)
            )
            drift = max(drift, abs(last / first - 1))
    return Run(session, estimates, drift, repeated, wide_us)


def _history(lease: Lease, device: Device, workload: Workload, rules: Protocol) -> AnchorHistory:
    """The anchors of this user's sessions like this one; they run in the candidates' batch."""
    conditions = [host_id(device), device.name, runtime_version(device), rules.version,
                  workload.name]  # fmt: skip
    return _earlier(lease, conditions)


def _quiet(lease: Lease, device: Device, rules: Protocol) -> AnchorHistory:
    """What the reference took in sessions of any kind: it is the host's, whatever is timed."""
    return _earlier(lease, [host_id(device), sorted(device.cores), rules.version, REFERENCE])


def _wide(lease: Lease, device: Device, workload: Workload, rules: Protocol) -> AnchorHistory:
    """What the wide anchor took in earlier measurements like this one."""
    conditions = [host_id(device), device.name, runtime_version(device), rules.version,
                  workload.name, WIDE]  # fmt: skip
    return _earlier(lease, conditions)


def _earlier(lease: Lease, conditions: list[Any]) -> AnchorHistory:
    own = private(shared(lease.folder) / f"anchors-{os.getuid()}")
    return AnchorHistory(own, digest(conditions)[:12])


def _remember(history: AnchorHistory, quiet: AnchorHistory, run: Run, rules: Protocol) -> None:
    """Keeps a session's anchors and reference, unless it is known to have drifted."""
    anchors = {n: f["value"] for n, f in run.estimates.items() if isinstance(n, str)}
    if anchors and run.drift <= rules.drift:
        # Without room for it the next interval is wider, and nothing else is lost.
        with contextlib.suppress(OSError):
            history.add(anchors)
            quiet.add({REFERENCE: run.session.end["reference_us"]})


def between(
    runs: list[Run], history: AnchorHistory, rules: Protocol, threads: int
) -> tuple[float, str]:
    """Relative standard deviation between processes, and where that figure comes from.

    `measured`: from these runs, files and anchors pooled, since what differs between processes
    (memory layout, clock) meets all of them. `history`: where each file has one run, from the
    anchors of the last sessions on this host. `assumed`: with neither. The assumed figure weighs
    as much as two observed deviations in all of them.
    """
    assumed = rules.between if threads == 1 else rules.between_shared
    seen: dict[int | str, list[float]] = {}
    for each in runs:
        for name, found in each.estimates.items():
            seen.setdefault(name, []).append(float(np.log(found["value"])))
    # Anchors alone are in several runs where these share the files, or some were timed again.
    again = any(len(v) > 1 for name, v in seen.items() if isinstance(name, int))
    repeated = [np.array(v) for v in seen.values() if len(v) > 1 and again]
    freedom = sum(v.size - 1 for v in repeated)
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in repeated)
    known = "measured"
    if not freedom:
        squares, freedom = history.squares()
        known = "history" if freedom else "assumed"
    return float(np.sqrt((2 * assumed**2 + squares) / (2 + freedom))), known


def _taken(runs: list[Run], history: AnchorHistory, rules: Protocol) -> float:
    """Milliseconds by which the wide anchor differs between measurements, one standard deviation.

    What neighbours leave of the shared cache changes in seconds to hours: processes right behind
    each other share it, and only measurements at other times tell. The assumed share weighs as much
    as two observed deviations. 0 where no wide anchor was timed.
    """
    now = [each.wide_us for each in runs if each.wide_us is not None]
    if not now:
        return 0.0
    with contextlib.suppress(OSError):
        history.add({WIDE: float(np.median(now))})
    known = np.array(by_name(history.rows()).get(WIDE, now))
    squares = float(((known - known.mean()) ** 2).sum())
    assumed = 2 * (rules.caches * float(known.mean())) ** 2
    return float(np.sqrt((assumed + squares) / (2 + known.size - 1))) / 1e3


def _reached(size_mb: float, rules: Protocol) -> float:
    """Milliseconds that a file of that size differs by, for each of the wide anchor's.

    Eleven networks of 5 to 37 MB all differed by 0.12 to 0.18 ms, whatever they took in all, where
    the wide anchor did by half of that, and those below 2 MB hardly at all (on one host of two
    cores, beside the load generator of `benchmarks/repeatability.py`).
    """
    over = (size_mb - rules.small_mb) / (rules.large_mb - rules.small_mb)
    return rules.reach * min(1.0, max(0.0, over))


def _measurement(
    index: int,
    runs: list[Run],
    spread: tuple[float, str],
    common: dict[str, Any],
    rules: Protocol,
    basis: str,
    taken_ms: float = 0.0,
) -> Measurement:
    """One file's number: the median of its processes, with their doubt and what they share.

    A repeat of the whole step differs from this one by the doubt of both, hence the root of two.
    """
    own = [r for r in runs if index in r.estimates]
    found = [r.estimates[index] for r in own]
    value = float(np.median([f["value"] for f in found])) / 1e3
    within = float(np.sqrt(np.mean([(f["se"] / f["value"]) ** 2 for f in found])))
    quiet = float(np.mean([f["quiet"] for f in found]))
    between, known = spread
    # A measured spread between processes already contains what else they differ by.
    own_terms = within, between, _slack(found)
    one = between if known == "measured" else float(np.linalg.norm(own_terms))
    # Variance of a median of three is 0.45 of one process's; of one or two, that of the mean.
    one *= float(np.sqrt((1.35 if len(own) > 2 else 1.0) / len(own)))
    # Whoever slows one process down slows down those right behind it: more of them tell no more.
    together = one, rules.contention * (1 - quiet) ** 3, taken_ms / value
    se = value * float(np.linalg.norm(together))
    half = Z90 * np.sqrt(2) * se
    doubts = _doubts(found, own, common.get("slower_than_usual"), rules)
    record = {
        **common,
        **{f"{q}_ms": _ms(np.median([f[q] for f in found])) for q in QUANTILES},
        "kept": sum(f["kept"] for f in found),
        "n": sum(f["n"] for f in found),
        "passes": [f["passes"] for f in found],
        "processes_ms": [_ms(f["value"]) for f in found],
        "quiet": round(quiet, 4),
        "within": round(within, 5),
        "between": round(between, 5),
        "between_is": known,
        "caches": round(taken_ms / value, 5),
        "noisy": any(f["noisy"] for f in found),
        "converged": not doubts,
        "unsettled": doubts,
        "sessions": [_conditions(r, index) for r in own],
    }
    return Measurement(
        "latency_ms", value, "ms", max(0.0, value - float(half)), value + float(half), se,
        record["kept"], "measured", basis, record,
    )  # fmt: skip


def _slack(found: list[dict[str, Any]]) -> float:
    """From the estimate up to the median, relative: what caches taken by others do to a network.

    A session that meets more of them finds its low quantile where this one had its median.
    """
    return float(np.mean([f["p50"] / f["value"] for f in found])) - 1


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
