"""What runs a file, one module for each runtime, named as its package.

Each has two functions: `load(path, job)`, which returns an `Engine`, and `versions()`, the versions
of what it stands on; some have a third, `profile(path, job, watch)`, the time of each kernel.
Nothing but the one that the job names is imported. A job says `runtime` and
its `options`, the `kind` of device, `threads`, `batch` and `resolution`.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol


class Engine(Protocol):
    """A file loaded into a runtime, with its fixed random inputs."""

    def call(self) -> float:
        """One call's duration, in microseconds."""
        ...


def load(path: str, job: dict[str, Any]) -> Engine:
    """The file loaded into the job's runtime, ready to be called."""
    engine: Engine = _module(job).load(path, job)
    return engine


def versions(job: dict[str, Any]) -> dict[str, str]:
    """The job's runtime, and what it stands on, with their versions."""
    found: dict[str, str] = _module(job).versions()
    return found


def profile(path: str, job: dict[str, Any], watch: Any) -> dict[str, Any]:
    """The kernels that a file became: `kernels`, each `[name, op, inputs, outputs, microseconds]`.

    Also `calls` (how many the times rest on), `call_us` (a whole call under the profiler) and
    `other_us` (time of no kernel in the list); where the runtime says so, `parts` (of each kernel,
    the file's operators that it does the work of), `resolution_us` (what its clock counts in) and
    `stamp_us` (what is known to be added to each kernel).
    Raises: ValueError, in whole words, where the runtime tells none.
    """
    module = _module(job)
    if not hasattr(module, "profile"):
        raise ValueError(f"{job['runtime']} does not say how long each of its kernels takes")
    found: dict[str, Any] = module.profile(path, job, watch)
    return found


def _module(job: dict[str, Any]) -> Any:
    return importlib.import_module(f".{job['runtime']}", __name__)
