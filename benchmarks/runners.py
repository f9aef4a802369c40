"""What a trial costs on a Ray cluster beside worker processes, where the work itself is nothing.

    python benchmarks/runners.py [--trials 60] [--rounds 3] [--json FILE]

The same searches, of a build and a training of three rungs a trial, done by arithmetic, with two
workers each: once by `processes`, once by `ray` on a cluster of this machine, in turns. A trial's
time is what passes between the end of the first ten trials and that of the last, by the record, so
that starting workers and cluster is left out. The ratio is the median of those of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from overhead import SPACE, costs

from nas.core.fidelity import Fidelity
from nas.core.objective import BUILTIN
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.engine import Search
from nas.runners.processes import Processes
from nas.runners.ray import joined
from nas.runners.ray_lease import Leases
from nas.runners.ray_search import Ray, Terms
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store
from nas.strategies.choose import create

FIRST, WORKERS = 10, 2


def work(given: Mapping[str, Any], beat: Callable[[], None]) -> Any:
    """What the workers run."""

    def perform(job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        found = costs(job["architecture"]["choices"])
        if job["kind"] == "build":
            return {"values": {"build": "b", "file": "0" * 64 + ".onnx", "costs": found}}
        score = {"score": found["params"], "se": 1.0, "n": 300}
        for rung in range(job["from_rung"] + 1, job["to_rung"] + 1):
            report(rung, {"epochs": 3**rung, "score": found["params"], "n": 300,
                          "checkpoint": "1" * 64 + ".safetensors"})  # fmt: skip
        return {"values": {"file": "2" * 64 + ".onnx", "score": score, "confirm": score}}

    return perform


def searched(runner: str, cluster: Any, trials: int, folder: Path) -> float:
    """Seconds a trial."""
    task = TaskSpec("digits", (3, 32, 32), 10, digest="d" * 32)
    spec = StudySpec(
        runner, SPACE.name, task, "cpu", (BUILTIN["accuracy"], BUILTIN["macs"]), strategy="random",
        promotion="none", trials=trials, fidelity=Fidelity(epochs=9), confirm=0.0, fresh=True,
    )  # fmt: skip
    setup = {
        "spec": spec.to_json(), "artifacts": str(folder), "locks": str(folder), "memory_bytes": 0,
        "work": "runners:work", "folder": str(folder), "sources": {},
        "paths": sys.path,
    }  # fmt: skip
    space = SPACE.at(task)
    with Store(f"sqlite:///{folder / 'runners.db'}") as store:
        store.create(spec)
        epoch = store.claim(runner)
        strategy = create("random", space, spec.objectives, seed=0)
        search = Search(spec, space, strategy, width=WORKERS + 2)
        session = Session(search, store, epoch, Artifacts(folder))
        if runner == "ray":
            setup["silence_s"] = 60.0
            Ray(cluster, setup, Leases(cluster, setup, {}), Terms(at_once=WORKERS)).run(session)
        else:
            Processes(setup, WORKERS).run(session)
        when = zip(store.events(runner), store.moments(runner), strict=True)
        ends = [moment for event, moment in when if event.kind == "told"]
    return (ends[-1] - ends[FIRST - 1]).total_seconds() / (len(ends) - FIRST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    given = parser.parse_args()
    rows = []
    os.environ["RAY_ADDRESS"] = "local"  # a cluster of its own, whatever else runs on this machine
    with joined() as cluster:
        for number in range(given.rounds):
            found = {}
            for runner in ("processes", "ray") if number % 2 else ("ray", "processes"):
                with tempfile.TemporaryDirectory(prefix="nas-runners-") as name:
                    found[runner] = searched(runner, cluster, given.trials, Path(name))
            rows.append(found | {"load": os.getloadavg()[0]})
            print(f"processes {1e3 * found['processes']:.0f} ms, ray {1e3 * found['ray']:.0f} ms")
            time.sleep(1.0)  # the actors of the last search are gone
    ratio = statistics.median(row["ray"] / row["processes"] for row in rows)
    document = {
        "benchmark": "runners", "date": datetime.now(UTC).date().isoformat(),
        "versions": {n: version(n) for n in ("ray", "sqlalchemy")}, "cores": os.cpu_count(),
        "trials": given.trials, "workers": WORKERS, "seconds_a_trial": rows,
        "ray_over_processes": ratio,
        "ray_costs_more_s": statistics.median(row["ray"] - row["processes"] for row in rows),
    }  # fmt: skip
    print(f"a trial by ray takes {ratio:.1f} times as long as by processes, where work is nothing")
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
