"""What a Ray cluster has: the devices of its nodes.

The only module that imports ray, which is an extra (`pip install -e '.[ray]'`).
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas.core.errors import NasError
from nas.hardware.device import Device


def nodes_with(devices: list[Device], address: str) -> dict[str, int]:
    """How many living nodes of the cluster have each device, by the device's name.

    A node has a device when it offers Ray's resource `accelerator_type:NAME` of the profile's
    `ray`, or a resource `device:PROFILE` that its owner gave it
    (`ray start --resources '{"device:jetson_orin_nano": 1}'`).

    Raises: NasError where ray is not installed or no cluster answers at the address.
    """
    with _joined(address) as ray:
        offered = Counter(
            name for node in ray.nodes() if node["Alive"] for name in node["Resources"]
        )
    return {d.name: max(offered[name] for name in resources(d)) for d in devices}


def resources(device: Device) -> tuple[str, ...]:
    """What a node that has the device offers: any of these resources."""
    named = (f"accelerator_type:{device.ray}",) if device.ray else ()
    return (*named, f"device:{device.name}")


@contextmanager
def _joined(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster that runs already; left again at the end."""
    try:
        import ray
    except ImportError:
        raise NasError("ray is not installed", "pip install -e '.[ray]'") from None
    _answers(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _silent(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(address: str) -> None:
    """Refuses an address where nobody listens; ray itself would try for two minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # `auto` and the like: ray looks for a cluster on this host
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise _silent(address, error) from error


def _silent(address: str, error: Exception) -> NasError:
    first = str(error).strip().partition("\n")[0]
    return NasError(
        f"no Ray cluster answers at {address!r}: {first}",
        "start one with  ray start --head  and give the address that it prints",
    )
