"""The most memory that a file takes: loading it and calling it, in a process that did nothing else.

On the processor it is the resident set, as the kernel keeps it: its peak since a reset, less what
it was when the runtime was ready. Ready means that a small network was run before: the first one
brings in pages of the runtime's own code, which belong to no network. On a CUDA device it is what
torch's allocator handed out at most.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

from .engines import load
from .host import read
from .watch import Watch, say

CALLS = 5


def measure(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Says the bytes that the job's one file takes; the anchors make the runtime ready."""
    for path in job["anchors"]:
        engine = load(path, job)
        engine.call()
        del engine
        gc.collect()
    say("loading", file=0)
    try:
        on_cuda = job.get("kind", "cpu") == "cuda"
        found = on_device(job, watch) if on_cuda else in_process(job, watch)
    except Exception as error:
        say("failed", file=0, error=f"{type(error).__name__}: {error}"[:500])
    else:
        say("loaded", file=0)
        say("result", file=0, **found)
    return {}


def in_process(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Bytes of the resident set. Raises: OSError where the kernel keeps no peak to be reset."""
    reset_peak()
    ready = resident()["VmRSS"]
    with watch.over(0, job.get("load_s")):
        engine = load(job["files"][0], job)
    loading = resident()["VmHWM"]
    reset_peak()
    for _ in range(CALLS):
        with watch.over(0):
            engine.call()
    running = resident()
    return {
        "what": "resident set",
        "runtime": ready,
        "loading": loading - ready,
        "running": running["VmHWM"] - ready,
        "after": running["VmRSS"] - ready,
    }


def on_device(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Bytes of torch's allocator on the device. Raises: OSError under another runtime."""
    torch = sys.modules.get("torch")
    if torch is None or job["runtime"] != "torch":  # others allocate beside torch
        raise OSError(f"{job['runtime']} does not say what it takes on the device")
    gc.collect()
    torch.cuda.synchronize()
    ready = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with watch.over(0, job.get("load_s")):
        engine = load(job["files"][0], job)
    loading = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(CALLS):
        with watch.over(0):
            engine.call()
    return {
        "what": "torch's allocator",
        "runtime": ready,
        "loading": loading - ready,
        "running": torch.cuda.max_memory_allocated() - ready,
        "after": torch.cuda.memory_allocated() - ready,
        "reserved": torch.cuda.max_memory_reserved(),
    }


def reset_peak() -> None:
    """Makes the peak of the resident set what it is now. Raises: OSError where that cannot be."""
    Path("/proc/self/clear_refs").write_text("5")


def resident() -> dict[str, int]:
    """Bytes of the resident set, now (`VmRSS`) and at most since the reset (`VmHWM`)."""
    lines = (read("/proc/self/status") or "").splitlines()
    pairs = (line.partition(":")[::2] for line in lines)
    return {name: 1024 * int(text.split()[0]) for name, text in pairs if name in ("VmRSS", "VmHWM")}
