"""The machine under a measurement: what may change, and what the process may take."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .fingerprint import memory_bytes
from .nvml import Gpu, first_gpu

GROUPS = Path("/sys/fs/cgroup")
POWER = Path("/sys/class/power_supply")
HEAT = Path("/sys/class/thermal")
# What runtimes, their libraries and allocators are told by the environment, and obey in silence.
_TOLD = (
    "BLIS_", "CUBLAS_", "CUDA_DEVICE_MAX", "CUDA_FORCE", "CUDA_LAUNCH", "CUDA_MODULE", "CUDNN_",
    "DNNL_", "GLIBC_TUNABLES", "GOMP_", "KMP_", "LD_PRELOAD", "MALLOC_", "MKL_",
    "NVIDIA_TF32_OVERRIDE", "OMP_", "ONEDNN_", "OPENBLAS_", "ORT_", "OV_", "PYTORCH_",
    "TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_ALLOW_TF32", "TORCH_CUDNN_", "XNNPACK_",
)  # fmt: skip
_SILENT = ("_PATH", "_HOME", "_DIR", "_CACHE_DIR", "_LOGS")  # where things lie, not what they do


def read(path: str | Path) -> str | None:
    """The text of a small file of the kernel's, or None where there is none."""
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return None


@functools.cache
def gpu() -> Gpu | None:
    """The first GPU that this process may use."""
    return first_gpu()


def state() -> dict[str, Any]:
    """What may change under a measurement: clocks, governor, temperature, load, throttling.

    `mhz` is of the slowest, the middle and the fastest core, `celsius` of the hottest zone. `boost`
    is the kernel's switch for the highest clocks, `mains` whether a laptop is plugged in, `mode`
    a Jetson's power mode. `quota` is how many cores the
    container may use, and `throttles` counts since its start how often it had to wait for that, or
    since the machine's how often the processor was too hot.
    """
    cpu = Path("/sys/devices/system/cpu/cpu0")
    clocks = megahertz(read("/proc/cpuinfo") or "", cpu.parent)
    zones = [read(place) or "" for place in HEAT.glob("thermal_zone*/temp")]
    heat = [int(text) for text in zones if text.lstrip("-").isdigit()]
    mains = [read(place) for place in sorted(POWER.glob("A*/online"))]  # AC, ACAD, ADP1
    quota, waits = limits(GROUPS, read("/proc/self/cgroup") or "")
    hot = read(cpu / "thermal_throttle/package_throttle_count")
    throttles = {"quota": waits, "heat": None if hot is None else int(hot)}
    board = gpu()
    return {
        "load": [round(v, 2) for v in os.getloadavg()],
        "mhz": [round(clocks[i]) for i in (0, len(clocks) // 2, -1)] if clocks else None,
        "governor": read(cpu / "cpufreq/scaling_governor"),
        "boost": read(cpu.parent / "cpufreq/boost") or _inverse(cpu.parent),
        "mode": read("/var/lib/nvpmodel/status"),
        "mains": None if not mains else "1" in mains,
        "celsius": max(heat) / 1000 if heat else None,
        "quota": quota,
        "throttles": {name: times for name, times in throttles.items() if times is not None},
        "gpu": None if board is None else board.state(),
    }


def megahertz(cpuinfo: str, cpus: Path) -> list[float]:
    """The clocks of the cores, the slowest first; on ARM only the governor's files have them."""
    lines = [line for line in cpuinfo.splitlines() if line.startswith("cpu MHz")]
    if lines:
        return sorted(float(line.split(":")[1]) for line in lines)
    said = [read(place) or "" for place in cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    return sorted(int(khz) / 1000 for khz in said if khz.isdigit())


def _inverse(cpus: Path) -> str | None:
    """Intel's switch says the opposite."""
    off = read(cpus / "intel_pstate/no_turbo")
    return None if off is None else str(1 - int(off))


def environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment tells the runtime and what it stands on.

    >>> environment({"ONEDNN_MAX_CPU_ISA": "AVX2", "CUDA_HOME": "/usr/local/cuda", "HOME": "/root"})
    {'ONEDNN_MAX_CPU_ISA': 'AVX2'}
    """
    names = sorted(n for n in given if n.startswith(_TOLD) and not n.endswith(_SILENT))
    return {name: given[name] for name in names}


def limits(root: Path, groups: str) -> tuple[float | None, int | None]:
    """The cores that a container may use, and how often it was made to wait for them.

    Of the innermost control group with a quota, version 2 or 1; None where nothing limits it.
    """
    version2 = next((g[3:] for g in groups.splitlines() if g.startswith("0::")), "/")
    for folder in (root / version2.strip("/"), *(root / version2.strip("/")).parents):
        quota, _, period = (read(folder / "cpu.max") or "max").partition(" ")
        if quota != "max":
            return round(int(quota) / int(period or 100_000), 3), _waits(folder)
        if folder == root:
            break
    for name in ("cpu", "cpu,cpuacct"):
        quota = read(root / name / "cpu.cfs_quota_us") or "-1"
        period = read(root / name / "cpu.cfs_period_us") or "100000"
        if int(quota) > 0:
            return round(int(quota) / int(period), 3), _waits(root / name)
    return None, None


def _waits(folder: Path) -> int | None:
    lines = (line.partition(" ") for line in (read(folder / "cpu.stat") or "").splitlines())
    return next((int(count) for name, _, count in lines if name == "nr_throttled"), None)


def throttling(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What slowed the machine down between two states, in words; empty where nothing is known.

    >>> throttling({"throttles": {"quota": 3}}, {"throttles": {"quota": 10}})
    ['the container waited for its share of the processor 7 times']
    """
    found = []
    words = {
        "quota": "the container waited for its share of the processor",
        "heat": "the processor was too hot",
    }
    earlier, later = (state.get("throttles") or {} for state in (before, after))
    for name, text in words.items():
        times = later.get(name, 0) - earlier.get(name, 0)
        if times > 0:
            found.append(f"{text} {times} times")
    earlier, later = (state.get("gpu") or {} for state in (before, after))
    for name, text in {"power_held_ms": "power", "heat_held_ms": "heat"}.items():
        held = (later.get(name) or 0) - (earlier.get(name) or 0)
        if held > 0:
            found.append(f"the GPU's clock was held down for its {text}, {held} ms")
    return found + [f"GPU: {reason}" for reason in later.get("throttled") or []]


def restrain(seconds: float, share: float | None) -> None:
    """Limits of the whole process: it dies by itself, with its parent, and within its memory.

    `share` is of the machine's memory.
    """
    signal.alarm(int(seconds) + 1)
    memory = int(memory_bytes() * (share or 0))
    if memory:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: without it an orphan would go on timing while others train.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def pin(cores: Sequence[int]) -> None:
    """Keeps the process, and the threads it starts, on these cores; anywhere where none is named.

    Raises: SystemExit saying which cores there are, where one of them is not this process's.
    """
    if not cores or sys.platform != "linux":
        return
    here = os.sched_getaffinity(0)
    if not here.issuperset(cores):
        sys.exit(f"cores {sorted(cores)} are asked for, and this process may use {sorted(here)}")
    os.sched_setaffinity(0, cores)
