"""Running the agent on a host: under the lease, in a fresh process, and surviving its death."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.core.job import Workload
from nas.hardware.device import Device
from nas.hardware.lease import Lease
from nas.hardware.protocol import Protocol

MOST_CALLS = 60  # that an agent makes at least in any mode but timing


@dataclass(frozen=True)
class Asked:
    """What is to be timed, where and by which rules.

    `also` is what else the agent's job says: another `mode` than timing, and what that one needs.
    """

    files: tuple[Path, ...]
    anchors: tuple[Path, ...]
    device: Device
    lease: Lease
    workload: Workload
    protocol: Protocol
    seed: int
    also: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Session:
    """What one run of the agent said, until it ended or died.

    `names` translates the agent's numbers: a candidate's index, or an anchor's name.
    """

    names: list[int | str]
    start: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    results: dict[int | str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[int | str, str] = field(default_factory=dict)
    loading: int | str | None = None
    death: str | None = None

    def hear(self, line: Mapping[str, Any]) -> None:
        """Takes in one line of the agent's."""
        match line["event"]:
            case "start":
                self.start = dict(line)
            case "loading":
                self.loading = self.names[line["file"]]
            case "loaded":
                self.loading = None
            case "failed":
                self.failed[self.names[line["file"]]] = line["error"]
                self.loading = None
            case "hung":
                why = f"hung: one call took over {line['seconds']:g} s"
                self.failed[self.names[line["file"]]] = why
            case "result":
                self.results[self.names[line["file"]]] = dict(line)
            case "end":
                self.end = dict(line)


def sessions(asked: Asked, alive: list[int], seed: int) -> tuple[list[Session], dict[int, str]]:
    """Sessions that together timed the files `alive` (indices), and why any of them could not be.

    One session, unless the agent died between two lines: then the files are halved until the one
    that kills it is alone. A file that fails by itself costs the others a new session only where
    it took the agent with it.
    """
    reasons: dict[int, str] = {}
    while alive:
        session = spawn(asked, alive, seed)
        lost = {i: why for i, why in session.failed.items() if isinstance(i, int)}
        broken = next((why for i, why in session.failed.items() if isinstance(i, str)), None)
        if session.death and not session.failed:
            if isinstance(session.loading, int):
                lost = {session.loading: session.death}
            elif session.loading or not session.start:
                broken = session.death
            elif len(alive) == 1:
                lost = {alive[0]: session.death}
            else:
                return _halves(asked, alive, seed, reasons)
        if broken:
            # Nothing can be said of the files where even an anchor cannot run.
            lost |= dict.fromkeys(alive, f"this host cannot measure now: {broken}")
        reasons |= lost
        alive = [i for i in alive if i not in reasons]
        if alive and not session.death:
            return [session], reasons
    return [], reasons


def _halves(
    asked: Asked, alive: list[int], seed: int, reasons: dict[int, str]
) -> tuple[list[Session], dict[int, str]]:
    found: list[Session] = []
    for half in (alive[: len(alive) // 2], alive[len(alive) // 2 :]):
        part, failures = sessions(asked, half, seed)
        found += part
        reasons = reasons | failures
    return found, reasons


def spawn(asked: Asked, alive: list[int], seed: int) -> Session:
    """Runs the agent once, under the lease, and listens to it until it ends."""
    rules = asked.protocol
    networks = len(alive) + len(asked.anchors)
    runtime, kind = asked.device.engine, asked.device.kind
    load_s = max(runtime.load_s, rules.call_cap_s)
    each = rules.seconds + rules.warm_cap_s + 3 * rules.call_cap_s + load_s
    seconds = 30 + networks * each
    if asked.also.get("mode", "time") != "time":
        # these make so many calls however long one takes; a call that hangs is seen by itself
        seconds += MOST_CALLS * rules.call_cap_s
    job: dict[str, Any] = {
        "files": [str(asked.files[i]) for i in alive],
        "anchors": [str(path) for path in asked.anchors],
        "batch": asked.workload.batch,
        "resolution": asked.workload.resolution,
        "runtime": runtime.name,
        "options": list(runtime.options),
        "kind": kind,
        "load_s": load_s,
        "threads": asked.device.threads,
        "cores": list(asked.device.cores),
        "seed": seed,
        "protocol": dataclasses.asdict(rules),
        "seconds": seconds,
        # CUDA maps far more than it uses: its own memory, and the host's beside it.
        "memory_share": rules.memory_share if kind == "cpu" else None,
    }
    job |= asked.also
    names: list[int | str] = [*alive, *(path.stem for path in asked.anchors)]
    session = Session(names)
    with asked.lease.measuring():
        ended = asked.device.host.run(job, job["seconds"] + 10)
    for line in ended.out.splitlines():
        if line.startswith('{"event":') and line.endswith("}"):  # a library may print too
            session.hear(json.loads(line))
    if not session.end:
        session.death = _death(ended.code, ended.err)
    return session


def _death(code: int, err: str) -> str:
    """Why the agent ended early, in words."""
    last = (err.strip().splitlines() or [""])[-1][:300]
    how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    return f"the measuring process ended early ({how}){': ' + last if last else ''}"
