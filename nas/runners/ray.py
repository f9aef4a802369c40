"""A Ray cluster: joining it, and which of its nodes have a device.

Ray is an extra (`pip install -e '.[ray]'`), and the modules `nas.runners.ray*` alone import it.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from nas.core.errors import NasError
from nas.hardware.device import Device, attached
from nas.runners.processes import WITHHELD

NAMESPACE = "nas"  # the same for all searches of a cluster, so that they find each other's leases
_OF_RAY = re.compile("node:|memory|object_store_memory")  # what nobody asks a node for
LOST = 3  # nodes or actors that may go away under one job before the job is blamed for it


def nodes_with(devices: list[Device], address: str) -> dict[str, int]:
    """How many living nodes of the cluster have each device, by the device's name.

    A node has a device when it offers Ray's resource `accelerator_type:NAME` of the profile's
    `ray`, or a resource `device:PROFILE` that its owner gave it
    (`ray start --resources '{"device:jetson_orin_nano": 1}'`).

    Raises: NasError where ray is not installed or no cluster answers at the address.
    """
    with joined(address) as cluster:
        offered = Counter(name for node in cluster.nodes() for name in node["Resources"])
    return {d.name: max(offered[name] for name in resources(d)) for d in devices}


def resources(device: Device) -> tuple[str, ...]:
    """What a node that has the device offers: any of these resources."""
    named = (f"accelerator_type:{device.ray}",) if device.ray else ()
    return (*named, f"device:{device.name}")


def fitting(offered: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How many jobs that take so much `each` fit where so much is offered.

    >>> fitting({"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.25})
    8
    """
    taken = {name: amount for name, amount in each.items() if amount}
    return int(1e-9 + min(offered.get(name, 0.0) / amount for name, amount in taken.items()))


def described(resources: Mapping[str, float]) -> str:
    """Resources as they are typed.

    >>> described({"GPU": 0.25, "CPU": 2.0})
    'cpu=2,gpu=0.25'
    """
    names = {"CPU": "cpu", "GPU": "gpu"}
    return ",".join(f"{names.get(n, n)}={amount:g}" for n, amount in sorted(resources.items()))


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined; `ray` is the package."""

    ray: Any

    def nodes(self) -> list[Mapping[str, Any]]:
        """The nodes that live, as Ray describes them."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    def home(self) -> str:
        """The node that this process is on."""
        return str(self.ray.get_runtime_context().get_node_id())

    def having(self, device: Device) -> list[str]:
        """The nodes that have the device, by Ray's names for them."""
        wanted = set(resources(device))
        return sorted(n["NodeID"] for n in self.nodes() if wanted & n["Resources"].keys())

    def slots(self, each: Mapping[str, float]) -> int:
        """How many jobs that take so much `each` fit on the nodes that are there now."""
        return sum(fitting(node["Resources"], each) for node in self.nodes())

    def lacking(self, each: Mapping[str, float]) -> str:
        """What nodes offer, where none that is there now could ever hold a job that takes `each`.

        It is empty where one could.
        """
        if self.slots(each):
            return ""
        most: dict[str, float] = {}
        for node in self.nodes():
            for name, amount in node["Resources"].items():
                if not _OF_RAY.match(name):
                    most[name] = max(amount, most.get(name, 0.0))
        return described(most) or "nothing"

    def standing(self, device: Device, measured: bool = False) -> Device:
        """The device as it stands to this process: attached here, on another node, or nowhere.

        One that was `measured` before is somewhere, though its node may be away at the moment.
        """
        if device.address is not None or attached(device):
            return device
        return replace(device, stands="elsewhere") if measured or self.having(device) else device


@contextmanager
def joined(address: str | None = None) -> Iterator[Cluster]:
    """A cluster that runs already; without an address Ray's own choice, which may be to start one.

    It is left again at the end, unless this process was in it before.

    Raises: NasError where ray is not installed, no cluster answers, or it is another one that this
        process has joined.
    """
    try:
        import ray
    except ImportError:
        raise NasError("ray is not installed", "pip install -e '.[ray]'") from None
    _no_client(address or os.environ.get("RAY_ADDRESS", ""))
    if ray.is_initialized():
        yield Cluster(ray)
        return
    if address:
        _answers(address)
    try:
        with _withheld():
            ray.init(
                address=address, namespace=NAMESPACE, logging_level=logging.ERROR,
                log_to_driver=False, include_dashboard=None if address else False,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _silent(address or "the default address", error) from error
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


@contextmanager
def _withheld() -> Iterator[None]:
    """Keeps from the processes of a cluster that is started here what no worker is given."""
    before = {name: os.environ.pop(name) for name in WITHHELD if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _no_client(address: str) -> None:
    """Refuses Ray's client: the session and its database stay in the process that decides."""
    if address.startswith("ray://"):
        host = address.removeprefix("ray://").partition("/")[0].rpartition(":")[0] or "HEAD"
        raise NasError(
            f"{address!r} is of Ray's client, and a search is typed on a node of its cluster",
            f"there, type the address that  ray start --head  printed: --address {host}:6379",
        )


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
    if "AuthToken" in str(error) or "authentication token" in str(error).lower():
        return NasError(
            f"the Ray cluster at {address!r} asks for its token",
            "export RAY_AUTH_MODE=token, with the head's ~/.ray/auth_token here as well",
        )
    return NasError(
        f"no Ray cluster answers at {address!r}: {first}",
        "start one with  ray start --head  and give the address that it prints",
    )
