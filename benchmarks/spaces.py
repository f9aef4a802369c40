"""How long the first search of each space takes on digits, and what it finds.

    python benchmarks/spaces.py [SPACE ...] [--fresh]

Each is `nas search --space SPACE --device cpu --data digits` and nothing else, in a database of its
own, from the first line to the front. What was searched is kept in the result: the same command
goes on with the other spaces.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.catalog import spaces

RESULT = Path(__file__).parent / "results" / "spaces.json"
ASKED_S = 300
PACKAGES = ("torch", "onnxruntime", "optuna")


def searched(space: str, folder: Path) -> dict[str, Any]:
    """One search, timed as a person would."""
    storage = f"sqlite:///{folder / 'nas.db'}"
    command = [sys.executable, "-m", "nas", "search", "--space", space, "--device", "cpu"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--data", "digits", "--storage", storage, "--json"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    took = time.perf_counter() - started
    front = json.loads(done.stdout)
    points = [
        {
            name: round(found["value"], 4)
            for name, found in member["measurements"].items()
            if name in {o["name"] for o in front["objectives"]}
        }
        for member in front["front"]
    ]
    counted = {state: n for state, n in front["trials"].items() if n}
    return {
        "seconds": round(took, 1), "trials": counted, "front": points,
        "load before": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def main() -> None:
    """Searches what the result lacks, and writes it after each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spaces", nargs="*", default=spaces())
    parser.add_argument("--fresh", action="store_true", help="search those named again")
    given = parser.parse_args()
    rows = json.loads(RESULT.read_text())["spaces"] if RESULT.exists() else {}
    again = given.spaces if given.fresh else [s for s in given.spaces if s not in rows]
    for space in again:
        with tempfile.TemporaryDirectory() as folder:
            rows[space] = searched(space, Path(folder))
        print(space, json.dumps(rows[space]), flush=True)
        slowest = max(row["seconds"] for row in rows.values())
        result = {
            "date": str(date.today()),
            "host": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": {name: version(name) for name in PACKAGES},
            f"longest search, s (asked: {ASKED_S})": slowest,
            "spaces": rows,
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
