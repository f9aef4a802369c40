"""Results as files: a document with its date, versions and host beside the figures.

What takes minutes keeps its parts as they come (`Parts`), so that the same command goes on.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.hardware.device import host_fingerprint
from nas.hardware.protocol import Protocol

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("numpy", "onnxruntime", "torch")


def conditions() -> dict[str, Any]:
    """What figures of one document must have in common."""
    return {
        "versions": {n: version(n) for n in PACKAGES} | {"python": platform.python_version()},
        "protocol": Protocol().version,
        "host": host_fingerprint(),
    }


class Parts:
    """What an interrupted run of a benchmark had measured, in a file that goes when it is done.

    Parts of other versions, another protocol or host, or more than `hours` ago are passed by.
    """

    def __init__(self, path: Path, hours: float = 12.0, **also: Any) -> None:
        self.path = path
        self.head = json.loads(json.dumps(conditions() | also))
        self.found: dict[str, Any] = {}
        if path.exists() and time.time() - path.stat().st_mtime < 3600 * hours:
            kept = json.loads(path.read_text())
            if kept["head"] == self.head:
                self.found = kept["found"]

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The part of that name; made now where it is not kept, and kept."""
        if name not in self.found:
            self.found[name] = make()
            new = self.path.with_suffix(".new")
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps({"head": self.head, "found": self.found}))
            new.replace(self.path)
        return self.found[name]

    def done(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)


def keep(name: str, document: dict[str, Any], out: Path | None = None) -> Path:
    """Writes `results/NAME.json`, or `out`; returns where."""
    path = out or RESULTS / f"{name}.json"
    head = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **conditions(),
        "load_at_end": [round(v, 2) for v in os.getloadavg()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(head | document, indent=1) + "\n")
    return path
