"""What a measurement on this host depends on, and stays as it is while one runs."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

SLICE = " (MIG)"


@functools.cache
def processor() -> str:
    """What this host's processor, or its board, calls itself."""
    for path in ("/proc/device-tree/model", "/proc/cpuinfo"):
        text = _read(path)
        if path.endswith("model") and text:
            return text.strip("\0\n ")
        for line in text.splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        if said := _arm(text):
            return said
    return platform.processor() or platform.machine()


def _arm(text: str) -> str:
    """What the kernel says of ARM's cores, which have no name: each kind of them once.

    >>> _arm("CPU implementer : 0x41\\nCPU variant : 0x3\\nCPU part : 0xd0c\\n")
    'implementer 0x41 variant 0x3 part 0xd0c'
    """
    kinds: list[str] = []
    for core in text.split("\n\n"):
        lines = (line.partition(":") for line in core.splitlines())
        said = {name.strip(): value.strip() for name, _, value in lines}
        words = [f"{n} {said[f'CPU {n}']}" for n in ("implementer", "variant", "part")
                 if f"CPU {n}" in said]  # fmt: skip
        if words and " ".join(words) not in kinds:
            kinds.append(" ".join(words))
    return ", ".join(kinds)


@functools.cache
def accelerators() -> tuple[tuple[str, str], ...]:
    """Name and driver version of every NVIDIA device that the driver shows.

    The one that this process would use is the first: the driver's first, or the first that
    `CUDA_VISIBLE_DEVICES` names; none where that is no GPU, such as -1. Asked of `nvidia-smi`, so
    that no GPU library is loaded and no context made. Of a GPU that is cut in slices (MIG) a
    process sees one: its name ends in `SLICE`, and is no profile's of the whole.
    """
    rows = _smi("uuid,driver_version,mig.mode.current,name")
    rows = rows or [[*r[:2], "", r[2]] for r in _smi("uuid,driver_version,name")]  # before R450
    # Empty hides nothing here: Ray empties it for work that takes no GPU, on hosts that have one,
    # and such work must know what the host times.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    if visible.lstrip("-").isdigit() and not 0 <= int(visible) < len(rows):
        return ()
    order = sorted(range(len(rows)), key=lambda i: not _names(visible, i, rows[i][0]))
    names = [row[3].strip() + (SLICE if row[2].strip() == "Enabled" else "") for row in rows]
    return tuple((names[i], rows[i][1].strip()) for i in order)


def _smi(fields: str) -> list[list[str]]:
    """What `nvidia-smi` says of each GPU: as many words as fields; empty where it says nothing."""
    tool, count = shutil.which("nvidia-smi"), fields.count(",")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = found.stdout.splitlines() if found.returncode == 0 else []
    return [row for row in (line.split(", ", count) for line in lines) if len(row) == count + 1]


def _names(visible: str, place: int, uuid: str) -> bool:
    """Whether an entry of `CUDA_VISIBLE_DEVICES` means the GPU, by its place or its UUID."""
    return visible == str(place) or (visible.startswith("GPU-") and uuid.startswith(visible))


def memory_bytes() -> int:
    """The memory that this machine or container has, 0 where the system does not say."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    return min([whole, *_allowed(Path("/sys/fs/cgroup"))])


def _allowed(root: Path) -> list[int]:
    """What a container's memory is limited to, by control groups of version 2 or 1."""
    found = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            found.append(int((root / name).read_text()))
        except (OSError, ValueError):  # there is none, or it says `max`
            continue
    return found


def fingerprint(again: bool = False) -> dict[str, Any]:
    """Processor, memory, accelerators with their driver, system: plain data.

    What was asked once is remembered, unless it is to be asked `again`.
    """
    if again:
        processor.cache_clear()
        accelerators.cache_clear()
    gpus = accelerators()
    return {
        "processor": processor(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory_bytes() / 2**30),
        "accelerators": [name for name, _ in gpus],
        "driver": gpus[0][1] if gpus else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
