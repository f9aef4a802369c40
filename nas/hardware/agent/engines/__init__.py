"""What runs a file, one module for each runtime, named as its package.

Each has two functions: `load(path, job)`, which returns an `Engine`, and `versions()`, the versions
of what it stands on. Nothing but the one that the job names is imported.
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


def _module(job: dict[str, Any]) -> Any:
    return importlib.import_module(f".{job['runtime']}", __name__)
