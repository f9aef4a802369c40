"""What was measured on this computer once and must never be measured otherwise: a small file.

Two processes that train the same network must take the same choices, or their sums differ in the
last bits. So whoever first needs a choice measures it while holding the file's lock, and all others
wait for it and read. Names hold the processor or GPU and torch's version, since folders are shared
between computers and outlive updates.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nas.core.folders import cache_folder

_VERSION = 4  # raise it when a method is added or changed: what was measured no longer holds
_known: dict[Path, dict[str, Any]] = {}
_fallen: dict[tuple[Path, str], Any] = {}  # what stands in for what cannot be kept, and is not
_held: set[tuple[Path, int, int]] = set()  # files whose lock a thread of a process holds


def path() -> Path:
    """The file of this version of what is measured."""
    return cache_folder() / f"measured-v{_VERSION}.json"


def kept(
    name: str,
    measure: Callable[[], Any],
    fallback: Callable[[], Any],
    fits: Callable[[Any], bool] = lambda _: True,
) -> Any:
    """The value kept under a name; where there is none yet, what `measure` returns, now kept.

    To measure one thing may need another that is kept: a block's speed the ways of its layers.

    Args:
        name: says all that the value depends on, as `of_device` does the machine.
        measure: returns something JSON can say.
        fallback: makes the value where the folder cannot be written to, from nothing but
            arguments: other processes cannot be told what this one measures.
        fits: whether a kept value can be used; otherwise it is measured anew.
    """
    file = path()
    known = _known.setdefault(file, {})
    if name in known and fits(known[name]):
        return known[name]
    known.update(_read(file))
    if name in known and fits(known[name]):
        return known[name]
    if (file, name) in _fallen:
        return _fallen[file, name]
    try:
        with _locked(file):
            known.update(_read(file))
            if name not in known or not fits(known[name]):
                known[name] = _alone(name, measure)
                _write(file, known)
    except OSError:
        known.pop(name, None)
        return _fallen.setdefault((file, name), fallback())
    return known[name]


def _alone(name: str, measure: Callable[[], Any]) -> Any:
    """What is measured; its own trouble with the system is not taken for that with the file."""
    try:
        return measure()
    except OSError as error:
        raise RuntimeError(f"cannot measure {name}") from error


@cache
def of_device(device: torch.device) -> str:
    """The machine as far as times depend on it: processor or GPU and torch's version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    if device.type != "cpu":
        return f"{device.type}, torch {torch.__version__}"
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name, family and stepping where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    parts = {key.strip(): value.strip() for key, value in told.items()}
    wanted = ("model name", "cpu family", "model", "stepping")
    return " ".join(parts[key] for key in wanted if key in parts) or platform.machine()


def _read(file: Path) -> dict[str, Any]:
    """What the file holds; nothing where it is absent or no JSON, in which case it is replaced."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, values: dict[str, Any]) -> None:
    """Puts a whole new file in the place of the old one."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    lines = [f"{json.dumps(name)}: {json.dumps(values[name])}" for name in sorted(values)]
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    partial.replace(file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds the file's lock, which dies with its process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    me = file, os.getpid(), threading.get_ident()
    if me in _held:  # to wait for oneself would be for ever
        yield
        return
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _held.add(me)
        try:
            yield
        finally:
            _held.discard(me)
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process forked meanwhile has the file open too
