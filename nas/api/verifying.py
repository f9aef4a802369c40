"""`nas verify`: a package against its card, on any later day, on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware.device import Device, attached, host_id, named
from nas.hardware.lease import Lease, default_folder
from nas.hardware.protocol import differences
from nas.hardware.ssh import remote

if TYPE_CHECKING:
    from nas.deploy.verify import Check, Opened

SLOWER = 1.2  # a smaller factor is not told from what other work on a host does
PROCESSES = 3


def verify(
    folder: str | Path, trust: bool = False, latency: bool = True, device: str | None = None
) -> dict[str, Any]:
    """Checks the hashes of a package, its outputs and its latency against its card.

    None of the package's code is run and nothing is unpickled; see `nas.deploy.verify`. Latency is
    held against the card where it was taken under the same conditions: same device, host, runtime
    and protocol. Elsewhere it is measured and told, and is no fault.

    Args:
        folder: what `nas export` wrote. trust: whether a `.pt2` or an engine may be run.
        latency: whether it is timed. device: where; the card's by default, else `cpu`.

    Returns: `passed`, and `checks`: name, `passed` (null where it could not be looked at), `said`.
    Raises: NasError where the folder is no package.
    """
    from nas.deploy import verify as checks

    package = checks.opened(Path(folder))
    refused = checks.refused(package, trust)
    if refused is not None:
        package.checks.append(refused)
    else:
        target = _device(package, device)
        here = attached(target) and target.address is None
        package.checks += checks.outputs(package, target.kind if here else "cpu")
        if latency and package.whole:
            package.checks.append(_latency(package, target))
    return {
        "folder": str(folder),
        "title": checks.printable(package.card["title"]),
        "format": package.format,
        "passed": package.whole,
        "checks": [{"name": c.name, "passed": c.passed, "said": c.said} for c in package.checks],
    }


def _device(package: Opened, asked: str | None) -> Device:
    """The device to run on: the one asked for, the card's where it is here, else the processor.

    A stranger's card sends nobody to another host: only who types `ssh://` goes there.
    """
    written = str(package.card["device"].get("name", "cpu"))
    try:
        found = named(asked or ("cpu" if remote(written) else written))
        there = attached(found)
    except NasError:
        if asked is not None:
            raise
        found, there = named("cpu"), True
    if not there and asked is None:
        found = named("cpu")
    runtime = package.runtime
    return found.under(str(runtime))


def _latency(package: Opened, device: Device) -> Check:
    """The latency now beside the card's; a fault only where conditions are alike."""
    from nas.deploy.verify import Check
    from nas.hardware.timing import measure

    if not attached(device):
        return Check("latency", None, f"{device.name} is not attached here")
    try:
        lease = Lease(default_folder(), device.seat)
        [now] = measure([package.file], device, lease, Workload(), PROCESSES, basis="trained file")
        then = package.card["measurements"].get("latency_ms")
        before = None if then is None else Measurement.from_json(then)
    except (NasError, TypeError) as error:
        return Check("latency", None, f"not measured: {str(error).splitlines()[0]}")
    if isinstance(now, str):
        return Check("latency", False, f"it cannot be timed: {now}")
    said = f"{now.value:.4g} [{now.low:.4g}, {now.high:.4g}] ms on this host ({host_id(device)})"
    if before is None:
        return Check("latency", None, f"{said}; the card has none")
    said += f"; the card says {before.value:.4g} [{before.low:.4g}, {before.high:.4g}] ms"
    unlike = [] if before.source == "measured" else ["it was predicted"]
    unlike += differences({**before.record, "form": None}, {**now.record, "form": None}, drift=0.2)
    if unlike:
        return Check("latency", None, f"{said}, under other conditions: {unlike[0]}")
    slow = now.low > before.high and now.value > SLOWER * before.value
    return Check("latency", not slow, said + (": slower than it was" if slow else ""))
