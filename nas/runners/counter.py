"""Counts networks beside a search, for a strategy that chooses among a few."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nas.core.architecture import Architecture
from nas.core.study import StudySpec
from nas.hardware.lease import default_folder
from nas.runners.processes import Worker, hire, memory_share

SILENCE_S = 60.0  # a network that takes so long to count is left uncounted


class Counter:
    """A worker process that builds networks and counts their multiply-accumulates.

    It is hired when it is first asked. A network that ends it, or that it says nothing of for
    `silence_s`, has no counts: another worker takes its place.

    Args:
        spec: the study that networks are of.
        artifacts: folder or URL of its files.
        silence_s: how long one network may take, once the worker has loaded its libraries.
    """

    def __init__(self, spec: StudySpec, artifacts: str, silence_s: float = SILENCE_S) -> None:
        self._setup: dict[str, Any] = {
            "spec": spec.to_json(),
            "artifacts": artifacts,
            "locks": str(default_folder()),
            "memory_bytes": memory_share(2),
            "work": "nas.runners.worker:counting",
        }
        self._silence_s = silence_s
        self._worker: Worker | None = None
        self._known: dict[str, Mapping[str, float]] = {}

    def __call__(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float]]:
        """The counts of each, by name: `macs`; none where it cannot be built."""
        for architecture in architectures:
            if architecture.key not in self._known:
                self._known[architecture.key] = self._counted(architecture)
        return [self._known[architecture.key] for architecture in architectures]

    def close(self) -> None:
        """Ends the worker; it is hired again when it is asked again."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _counted(self, architecture: Architecture) -> Mapping[str, float]:
        if self._worker is None:
            self._worker = hire(self._setup)
        worker = self._worker
        worker.heard = time.monotonic()
        worker.send({"architecture": architecture.to_json()})
        while not worker.silent(self._silence_s):
            try:
                if not worker.line.poll(1.0):
                    continue
                message = worker.receive()
            except (EOFError, OSError):
                break
            if "outcome" in message:
                found: dict[str, float] = message["outcome"]["costs"]
                return found
        self.close()
        return {}
