"""Results as files: a document with its date, versions and host beside the figures."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.hardware.device import host_fingerprint
from nas.hardware.protocol import Protocol

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("numpy", "onnxruntime", "torch")


def keep(name: str, document: dict[str, Any], out: Path | None = None) -> Path:
    """Writes `results/NAME.json`, or `out`; returns where."""
    path = out or RESULTS / f"{name}.json"
    head = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {n: version(n) for n in PACKAGES} | {"python": platform.python_version()},
        "protocol": Protocol().version,
        "host": host_fingerprint(),
        "load_at_end": [round(v, 2) for v in os.getloadavg()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(head | document, indent=1) + "\n")
    return path
