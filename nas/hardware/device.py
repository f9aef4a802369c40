"""Device profiles: what is known of a device, from TOML, and whether it is attached to this host.

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

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.core.errors import NasError, unknown

KINDS = {"cpu": "onnxruntime", "cuda": "torch"}
RUNTIMES = ("onnxruntime", "torch", "openvino", "tensorrt")


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
        name: the profile's file name without `.toml`; what `--device` takes.
        title: what tables and plots print.
        kind: `cpu` or `cuda`.
        runtime: what runs the deployed form there by default.
        threads: threads of one inference (a CPU's matter).
        names: what the driver, or `/proc/cpuinfo`, or the device tree calls it; how it is
            recognised. A CPU without names is whatever host this is.
        ray: Ray's accelerator name, or None where Ray has none.
        facts: the datasheet: dense peak rates `fp32_tflops`, `fp16_tflops`, `int8_tops`, ...
            (a multiply-add is two operations), `bandwidth_gbs`, `memory_gb`, `l2_mb`, `tdp_w`, ...
    """

    name: str
    title: str
    kind: str
    runtime: str
    threads: int = 1
    names: tuple[str, ...] = ()
    ray: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def unverified(self) -> tuple[str, ...]:
        """The facts that were written down from memory."""
        return tuple(name for name, fact in self.facts.items() if not fact.verified)


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
    known = set(Device.__dataclass_fields__) - {"name"}
    for key in data:
        if key not in known:
            raise _wrong(where, str(unknown("key", key, known)))
    kind = _text(data, "kind", where)
    if kind not in KINDS:
        raise _wrong(where, f"kind = {kind!r}", f"kind is one of {', '.join(map(repr, KINDS))}")
    runtime = _text(data, "runtime", where, KINDS[kind])
    if runtime not in RUNTIMES:
        raise _wrong(where, f"runtime = {runtime!r}", f"runtime is one of {', '.join(RUNTIMES)}")
    threads = data.get("threads", 1)
    if type(threads) is not int or threads < 1:
        raise _wrong(where, f"threads = {threads!r}", "threads is a whole number, at least 1")
    names = data.get("names", [])
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise _wrong(where, f"names = {names!r}", 'names is a list of texts: names = ["Tesla T4"]')
    ray = _text(data, "ray", where) if "ray" in data else None
    facts = _facts(data.get("facts", {}), where)
    title = _text(data, "title", where, name)
    return Device(name, title, kind, runtime, threads, tuple(names), ray, facts)


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


@functools.cache
def processor() -> str:
    """What this host's processor calls itself."""
    for path in ("/proc/device-tree/model", "/proc/cpuinfo"):
        text = _read(path)
        if path.endswith("model") and text:
            return text.strip("\0\n ")
        for line in text.splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def accelerators() -> tuple[tuple[str, str], ...]:
    """Name and driver version of every NVIDIA device that the driver shows, in its order.

    Asked of `nvidia-smi`, so that no GPU library is loaded and no context made.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    rows = [line.rpartition(",") for line in found.stdout.splitlines() if found.returncode == 0]
    return tuple((name.strip(), driver.strip()) for name, comma, driver in rows if comma)


def attached(device: Device) -> bool:
    """Whether this host has the device.

    A CPU profile without names is this host itself; a Jetson is recognised by its board, any other
    by the name its driver gives it.
    """
    if device.kind == "cpu" and not device.names:
        return True
    board = processor()
    if device.kind == "cpu":
        return any(name in board for name in device.names)
    here = {name for name, _ in accelerators()}
    return any(name in here or name in board for name in device.names)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _memory_gb() -> int:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError):
        return 0


def host_fingerprint() -> dict[str, Any]:
    """What a measurement on this host depends on: processor, memory, accelerators, system."""
    gpus = accelerators()
    return {
        "processor": processor(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gb": _memory_gb(),
        "accelerators": [name for name, _ in gpus],
        "driver": gpus[0][1] if gpus else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def host_id() -> str:
    """A short digest of the fingerprint without the system's version: hosts of one kind share it.

    >>> host_id() == host_id(), len(host_id())
    (True, 12)
    """
    stable = {k: v for k, v in host_fingerprint().items() if k != "system"}
    text = json.dumps(stable, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
