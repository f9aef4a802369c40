"""Where this process measures a device, as measurements are filed."""

from __future__ import annotations

from nas.hardware.device import Device, attached, host_id
from nas.session import Bench


def bench(device: Device) -> Bench | None:
    """Where latencies of a device are measured, or None where they are predicted."""
    if not attached(device):
        return None
    from nas.hardware.protocol import Protocol
    from nas.hardware.timing import runtime_version

    return Bench(host_id(device), runtime_version(device), Protocol().version)
