"""One file alone in fresh processes of the agent: what it takes besides time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from nas.core.job import Workload
from nas.hardware import agent
from nas.hardware.agent.host import throttling
from nas.hardware.agent.workplace import workplace
from nas.hardware.anchors import write_anchors
from nas.hardware.device import Device, host_id
from nas.hardware.lease import Lease
from nas.hardware.protocol import Protocol
from nas.hardware.session import Asked, Session, spawn


def probe(
    path: Path, device: Device, lease: Lease, workload: Workload, **job: Any
) -> Session | str:
    """What the agent said of one file in a `mode` other than timing, or why it said nothing.

    It holds the device meanwhile. `job` is what else the agent is told.
    """
    if not path.is_file():
        return f"no such file: {path}"
    with workplace("anchors") as folder:
        anchors = write_anchors(folder, device.engine)[:1]
        asked = Asked((path,), anchors, device, lease, workload, Protocol(), 0, job)
        session = spawn(asked, [0], 0)
    if 0 in session.results and not session.death:
        return session
    return next(iter(session.failed.values()), None) or session.death or "the agent said nothing"


def t90(freedom: int) -> float:
    """Half the width that holds 90 % of Student's t, in standard deviations.

    >>> round(t90(2), 2)
    2.92
    """
    return float(stdtrit(freedom, 0.95))


def conditions(session: Session, device: Device, workload: Workload) -> dict[str, Any]:
    """Under which circumstances a probe ran: what must agree where two are compared."""
    return {
        "protocol": f"{agent.VERSION}",
        "device": device.name,
        "workload": workload.name,
        "batch": workload.batch,
        "threads": device.threads,
        "cores": list(device.cores),
        "host": host_id(device),
        "runtime": session.start["runtime"],
        "options": list(device.options),
        "versions": session.start["versions"],
        "environment": session.start.get("environment", {}),
        "before": session.start["state"],
        "after": session.end["state"],
        "throttled": throttling(session.start["state"], session.end["state"]),
    }
