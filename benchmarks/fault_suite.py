"""The fault suite, so many times in a row.

    python benchmarks/fault_suite.py [--times 10] [--outage 60]

Every run is of all tests of `tests/faults`, those marked long too, as a fresh process. It ends with
the first run in which a test fails or is skipped, no test ran, or pytest itself says that something
is wrong. In the first one the database is away for `--outage` seconds, in the others for three.
`results/fault_suite.json` says what ran, of which commit, and how long.
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

from commit import commit

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fault_suite.json"
SHORT_S = 3.0


def suite(outage_s: float) -> dict[str, Any]:
    """One run: each test's seconds, which were not passed, and what pytest ended with."""
    started, made_by = time.time(), commit()
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "long or not long",
                   f"--junitxml={said}", "tests/faults"]  # fmt: skip
        environment = {**os.environ, "NAS_TEST_OUTAGE_S": str(outage_s)}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        # written a moment ago by our own pytest; not there where it could not begin
        cases = list(ElementTree.parse(said).getroot().iter("testcase")) if said.exists() else []
    return {
        "commit": made_by,
        "seconds": round(time.time() - started, 1),
        "outage_s": outage_s,
        "tests": {case.get("name", ""): float(case.get("time", 0)) for case in cases},
        "not passed": [case.get("name", "") for case in cases if len(case.findall("*"))],
        "exit code": done.returncode,
    }


def amiss(run: dict[str, Any]) -> str | None:
    """What is wrong with a run; None where every test there is was passed."""
    if run["not passed"]:
        return f"not passed: {', '.join(run['not passed'])}"
    if not run["tests"]:
        return f"no test ran (pytest's exit code {run['exit code']})"
    return f"pytest's exit code is {run['exit code']}" if run["exit code"] else None


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
        wrong = amiss(runs[-1])
        print(f"run {number + 1}: {len(runs[-1]['tests'])} tests, {runs[-1]['seconds']:.0f} s, "
              f"{wrong or 'all passed'}", flush=True)  # fmt: skip
        if wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
