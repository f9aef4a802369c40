"""What earlier sessions on this host left behind that says something of the next one.

All are small files of this user, beside the device's locks, by the digest of the conditions.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from nas.core.architecture import digest
from nas.core.job import Workload
from nas.hardware.anchors import WIDE
from nas.hardware.device import Device, host_id
from nas.hardware.history import REFERENCE, AnchorHistory
from nas.hardware.lease import Lease, private, shared
from nas.hardware.protocol import Protocol
from nas.hardware.repeats import Repeats
from nas.hardware.runs import Run


@dataclass(frozen=True)
class Past:
    """Sessions like this one, and all of this host.

    Args:
        anchors: what they took in sessions with the same device, runtime, rules and workload.
        wide: what the wide anchor did; it is compared with nothing, hence apart.
        repeats: what files took, and how sure that was.
        reference: what the reference kernel took in sessions of any kind: it is the host's,
            whatever is timed.
    """

    anchors: AnchorHistory
    wide: AnchorHistory
    repeats: Repeats
    reference: AnchorHistory

    def remember(self, run: Run, rules: Protocol) -> None:
        """Keeps a session's anchors and reference, unless it is known to have drifted."""
        anchors = {n: f["value"] for n, f in run.estimates.items() if isinstance(n, str)}
        if anchors and run.drift <= rules.drift:
            # Without room for it the next interval is wider, and nothing else is lost.
            with contextlib.suppress(OSError):
                self.anchors.add(anchors)
                self.reference.add({REFERENCE: run.session.end["reference_us"]})


def past(lease: Lease, device: Device, workload: Workload, rules: Protocol, filed: str) -> Past:
    """What was kept under conditions like these; `filed` is the runtime as numbers are filed."""
    folder: Path = private(shared(lease.folder) / f"anchors-{os.getuid()}")
    host = host_id(device)
    alike = [host, device.name, filed, rules.version, workload.name]

    def key(*conditions: object) -> str:
        return digest(list(conditions))[:12]

    return Past(
        anchors=AnchorHistory(folder, key(*alike)),
        wide=AnchorHistory(folder, key(*alike, WIDE)),
        repeats=Repeats(folder, key(*alike, "repeats")),
        reference=AnchorHistory(folder, key(host, sorted(device.cores), rules.version, REFERENCE)),
    )
