"""Device profiles: what is known of a device, from TOML, and whether it is attached to a host.

A profile is a file in `hardware_profiles/` (the user's working folder first); its name is the
device's name. The shortest one is three lines:

    title = "My board"
    kind = "cuda"
    names = ["NVIDIA GeForce RTX 4070"]

and the datasheet goes below, each number with its source:

    [facts]
    bandwidth_gbs = { value = 504, source = "the vendor's product page" }
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.catalog import DEVICES, find
from nas.core.errors import NasError, unknown
from nas.hardware import runtimes, ssh
from nas.hardware.hosts import Host, Local


@dataclass(frozen=True)
class Fact:
    """A number of a device's, and who says so.

    `verified` is False for a figure written down from memory: reports that use it must say so.
    """

    value: float
    source: str
    verified: bool = True


@dataclass(frozen=True)
class Device:
    """A device as data.

    Args:
        name: what `--device` takes: the profile's file name without `.toml`, or
            `ssh://HOST/PROFILE`, that profile on another host.
        title: what tables and plots print.
        kind: `cpu` or `cuda`.
        runtime: what runs the deployed form there by default. options: how; in a profile the two
            are one text, `runtime = "torch:compiled"`.
        threads: threads of one inference (a CPU's matter).
        cores: the cores that a measurement is pinned to, as many as threads, where the host keeps
            them free for it. None named, none pinned: on a shared host the fixed core may be the
            busy one.
        names: what the driver, or `/proc/cpuinfo`, or the device tree calls it; how it is
            recognised. A CPU without names is whatever host this is.
        ray: Ray's accelerator name, or None where Ray has none.
        facts: the datasheet: dense peak rates `fp32_tflops`, `fp16_tflops`, `int8_tops`, ...
            (a multiply-add is two operations), `bandwidth_gbs`, `memory_gb`, `l2_mb`, `tdp_w`, ...
        address: where another host is reached; None for this one.
        stands: how the device stands to this process where other hosts take part: `elsewhere` (a
            node of the cluster has it and measures), `here` (this node was named as the one that
            has it), `away` (none has, and it is to be predicted); None where only this host counts.
    """

    name: str
    title: str
    kind: str
    runtime: str
    threads: int = 1
    names: tuple[str, ...] = ()
    ray: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    address: ssh.Address | None = None
    options: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    stands: str | None = None

    @property
    def engine(self) -> runtimes.Runtime:
        """The runtime with its options."""
        return runtimes.Runtime(self.runtime, self.options)

    def under(self, runtime: str | None) -> Device:
        """The device with another runtime, `NAME[:OPTION+OPTION]`; with its own where None.

        Raises: NasError for a runtime that is not known, or cannot work on such a device.
        """
        if runtime is None:
            return self
        found = runtimes.parse(runtime, self.kind)
        return replace(self, runtime=found.name, options=found.options)

    @property
    def profile(self) -> str:
        """The profile's file name without `.toml`; what the device is called on its own host."""
        return self.address.profile if self.address else self.name

    @property
    def label(self) -> str:
        """The device as part of a file's or a study's name."""
        if self.address is None:
            return self.name
        return re.sub(r"[^\w.+-]+", "-", f"{self.address.host}-{self.profile}").strip("-")

    @property
    def seat(self) -> str:
        """What its lease is named by: `cpu` or `cuda` here, which all profiles of them share."""
        return self.name if self.address else self.kind

    @property
    def host(self) -> Host:
        """The host that has the device, or is asked whether it has."""
        return ssh.connect(self.address) if self.address else Local()

    @property
    def unverified(self) -> tuple[str, ...]:
        """The facts that were written down from memory."""
        return tuple(name for name, fact in self.facts.items() if not fact.verified)


def named(name: str) -> Device:
    """The device that `--device` names. Raises: NasError for a name or a profile that is none."""
    if not ssh.remote(name):
        return load(find(DEVICES, name))
    address = ssh.parse(name)
    device = load(find(DEVICES, address.profile))
    return replace(
        device, name=str(address), title=f"{device.title}, at {address.host}", address=address
    )


def load(path: Path) -> Device:
    """The device of a profile file. Raises: NasError naming file, key and remedy."""
    try:
        return parse(path.read_text(encoding="utf-8"), path.stem, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(
            f"cannot read the device profile {path}: {error}", "is it a text file you may read?"
        ) from None


def parse(text: str, name: str, where: str | None = None) -> Device:
    """The device that a profile's text describes; `where` is what errors call the file.

    >>> parse('title = "My board"\\nkind = "cuda"', "mine").runtime
    'torch'
    """
    where = where or f"{name}.toml"
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NasError(f"{where} is not TOML: {error}", 'write lines like  kind = "cpu"') from None
    known = set(Device.__dataclass_fields__) - {"name", "address", "options", "stands"}
    for key in data:
        if key not in known:
            raise _wrong(where, str(unknown("key", key, known)))
    kind = _text(data, "kind", where)
    kinds = runtimes.DEFAULTS
    if kind not in kinds:
        raise _wrong(where, f"kind = {kind!r}", f"kind is one of {', '.join(map(repr, kinds))}")
    try:
        runtime = runtimes.parse(_text(data, "runtime", where, kinds[kind]), kind)
    except NasError as error:
        raise _wrong(where, error.problem, error.hint) from None
    threads = data.get("threads", 1)
    if type(threads) is not int or threads < 1:
        raise _wrong(where, f"threads = {threads!r}", "threads is a whole number, at least 1")
    cores = data.get("cores", [])
    if not isinstance(cores, list) or not all(type(c) is int and c >= 0 for c in cores):
        raise _wrong(where, f"cores = {cores!r}", "cores is a list of numbers: cores = [2, 3]")
    if cores and len(set(cores)) != threads:
        raise _wrong(where, f"cores = {cores!r} for threads = {threads}", "name one core a thread")
    names = data.get("names", [])
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise _wrong(where, f"names = {names!r}", 'names is a list of texts: names = ["Tesla T4"]')
    ray = _text(data, "ray", where) if "ray" in data else None
    facts = _facts(data.get("facts", {}), where)
    title = _text(data, "title", where, name)
    return Device(
        name, title, kind, runtime.name, threads, tuple(names), ray, facts,
        options=runtime.options, cores=tuple(cores),
    )  # fmt: skip


def _wrong(where: str, problem: str, hint: str | None = None) -> NasError:
    first, _, second = problem.partition("\n")
    return NasError(f"{where}: {first}", hint or second.strip())


def _text(data: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if value is None:
        raise _wrong(where, f"{key} is missing", f'add a line  {key} = "..."')
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, f"{key} = {value!r}", f'write it in quotes:  {key} = "..."')
    return value


def _facts(data: Any, where: str) -> dict[str, Fact]:
    hint = 'write  bandwidth_gbs = { value = 900, source = "who says so" }'
    if not isinstance(data, dict):
        raise _wrong(where, f"facts = {data!r}", f"begin a table with [facts], then {hint}")
    facts = {}
    for key, entry in data.items():
        fields = entry if isinstance(entry, dict) else {"value": entry}
        value, source = fields.get("value"), fields.get("source")
        verified = fields.get("verified", True)
        extra = set(fields) - {"value", "source", "verified"}
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise _wrong(where, f"facts.{key} has no number above 0: {entry!r}", hint)
        if not isinstance(source, str) or not source or extra or not isinstance(verified, bool):
            raise _wrong(where, f"facts.{key} does not say where {value} comes from", hint)
        facts[key] = Fact(float(value), source, verified)
    return facts


# --- what is attached --------------------------------------------------------------------------


def attached(device: Device) -> bool:
    """Whether this host has the device; asked of the other host where the device is there.

    A CPU profile without names is its host itself; a Jetson is recognised by its board, any other
    by the name its driver gives it. Raises: NasError where another host has no such device, or
    cannot be asked: what was to be measured there is not predicted instead.
    """
    if device.stands in ("elsewhere", "away"):
        return device.stands == "elsewhere"
    nameless = device.kind == "cpu" and not device.names
    if nameless and device.address is None:
        return True
    there = device.host.fingerprint()
    found = nameless or any(n in there["processor"] for n in device.names)
    # Of several GPUs the first is the one that would be timed.
    found = found or (device.kind != "cpu" and bool({*device.names} & {*there["accelerators"][:1]}))
    if device.address is not None and not found:
        what = ", ".join(there["accelerators"]) or there["processor"]
        raise NasError(
            f"no {device.profile} at {device.address.host}: it has {what}",
            f"type --device {replace(device.address, profile='cpu')}",
        )
    if device.stands == "here" and not found:
        what = ", ".join(there["accelerators"]) or there["processor"]
        raise NasError(
            f"the node {platform.node()} offers {device.name} to the cluster, but has {what}",
            "start Ray there without that resource, or mend the profile's names",
        )
    return found


def engine_of(device: Device) -> runtimes.Runtime:
    """What the device's file is for: its runtime, or onnxruntime's format where it is predicted."""
    return device.engine if attached(device) else runtimes.Runtime("onnxruntime")


def host_fingerprint(device: Device | None = None) -> dict[str, Any]:
    """What a measurement depends on, of the device's host: processor, memory, system, ..."""
    return (device.host if device else Local()).fingerprint()


def host_id(device: Device | None = None) -> str:
    """A short digest of the fingerprint without the system's version: hosts of one kind share it.

    >>> host_id() == host_id(), len(host_id())
    (True, 12)
    """
    stable = {k: v for k, v in host_fingerprint(device).items() if k != "system"}
    text = json.dumps(stable, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
