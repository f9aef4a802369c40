"""The fault suite, so many times in a row.

    python benchmarks/fault_suite.py [--times 10] [--outage 60]

Every run is of all tests of `tests/faults`, those marked long too, as a fresh process. It ends with
the first run in which a test fails or is skipped. In the first one the database is away for
`--outage` seconds, in the others for three. `results/fault_suite.json` says what ran and how long.
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
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fault_suite.json"
SHORT_S = 3.0


def suite(outage_s: float) -> dict[str, Any]:
    """One run: each test's seconds, and which were not passed."""
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "long or not long",
                   f"--junitxml={said}", "tests/faults"]  # fmt: skip
        environment = {**os.environ, "NAS_TEST_OUTAGE_S": str(outage_s)}
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
        # written a moment ago by our own pytest
        cases = list(ElementTree.parse(said).getroot().iter("testcase"))
    return {
        "seconds": round(time.time() - started, 1),
        "outage_s": outage_s,
        "tests": {case.get("name", ""): float(case.get("time", 0)) for case in cases},
        "not passed": [case.get("name", "") for case in cases if len(case.findall("*"))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds, in the first run")
    given = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for number in range(given.times):
        runs.append(suite(given.outage if number == 0 else SHORT_S))
        document = {
            "benchmark": "fault_suite", "date": datetime.now(UTC).date().isoformat(),
            "versions": {n: version(n) for n in ("ray", "psycopg", "sqlalchemy")},
            "python": platform.python_version(), "cores": os.cpu_count(), "runs": runs,
        }  # fmt: skip
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
        failed = runs[-1]["not passed"]
        print(f"run {number + 1}: {runs[-1]['seconds']:.0f} s, not passed: {failed or 'none'}",
              flush=True)  # fmt: skip
        if failed:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
