"""How a search grows: the real `Search`, `Session` and `Store` with simulated workers.

    python benchmarks/scale.py [--trials 10000 --trials 100000] [--storage URL] [--json FILE]
    python benchmarks/scale.py --trials 1000000 --stretch 2000

Workers, a hundredth of the trials, build and train under a simulated clock: a job takes as long as
a network of its size would, and none of ours. Everything else is what `nas search` runs: the
strategy, here `evolution`, proposes among 24 decisions, every decision is a transaction before it
is acted on, rungs are judged by successive halving, the front is confirmed. Counted as decisions
are a job that is handed out, a rung that is judged and an outcome that is taken in.

Confirming begins when every trial has ended, and is a phase of its own, between whose decisions the
front is worked out anew. It is in none of the other rates and has its own (`confirming
decisions/s`, `confirming_decisions_a_second`), which is held against the same target.

With `--stretch`, each decision is a transaction of its own only during the last so many trials of
every tenth, which are what is timed; in between transactions are put together, so that a million
trials take an hour and not three. All else is as without.

For each number of trials: decisions a second on the wall and per second of the processor, over the
whole search and over its last tenth; what memory it took beyond the start; the size of the
database; and how long `nas front` takes, as a query (`nas.api.front`) and as a fresh process. With
two or more sizes, how each grows: the exponent of a power of the trials.

Sizes already in the file of `--json` are not run again, and each row says which commit it is of.
Each size gets a database of its own: an SQLite file in a temporary folder, or with `--storage` one
that the PostgreSQL server of the URL makes. With `--keep FOLDER` SQLite files stay there, and the
front of a size whose row and file there are is timed again.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from commit import commit
from overhead import SPACE
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from nas.core.fidelity import Fidelity
from nas.core.job import Build, Done, Job, Outcome, Train, Wait
from nas.core.objective import BUILTIN
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.core.trial import Evaluation, Event, Timing
from nas.engine import Search
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store
from nas.strategies.choose import create

STUDY = "scale"
TENTHS = 10
TOGETHER = 5000  # events in one transaction, outside the timed stretches
TARGETS = {"sqlite": 500.0, "postgresql": 300.0}  # decisions a second, sustained
FRONT_S, MEMORY_B = 1.0, 2000.0


class Workers:
    """So many workers under a simulated clock; what they are given is arithmetic."""

    def __init__(self, count: int, spec: StudySpec) -> None:
        self.idle = count
        self.clock = 0.0
        self._rungs = spec.fidelity.rungs
        self._under_way: list[tuple[float, int, Job, int]] = []
        self._started = 0

    def start(self, job: Job) -> None:
        """Gives a job to an idle worker."""
        self.idle -= 1
        self._wait(job, job.from_rung + 1 if isinstance(job, Train) else 0)

    def next(self) -> tuple[Job, int]:
        """Waits for what comes next: a job, and the rung that it reached."""
        self.clock, _, job, rung = heapq.heappop(self._under_way)
        return job, rung

    def goes_on(self, job: Train, rung: int) -> None:
        """A training goes on after a rung."""
        self._wait(job, rung + 1)

    def free(self) -> None:
        """A worker is idle again."""
        self.idle += 1

    def reached(self, job: Train, rung: int) -> dict[str, Any]:
        """What a training reports at a rung."""
        return {
            "epochs": self._rungs[rung],
            "n": 3300,
            "score": self.score(job, rung),
            "checkpoint": "1" * 64 + ".safetensors",
        }

    def _wait(self, job: Job, rung: int) -> None:
        self._started += 1
        seconds = 5.0
        if isinstance(job, Train):
            before = self._rungs[rung - 1] if rung else 0
            size = costs(job.architecture.choices)["params"]
            seconds = (self._rungs[rung] - before) * (20 + size / 10)
        heapq.heappush(self._under_way, (self.clock + seconds, self._started, job, rung))

    def score(self, job: Train, rung: int) -> float:
        """What the training scores at a rung: larger is better, later is better, luck remains."""
        size = costs(job.architecture.choices)["params"]
        seed = zlib.crc32(f"{job.architecture.key} {job.seed} {rung}".encode())
        luck = random.Random(seed).gauss(0.0, 0.4)
        return 95 - 400 / (10 + math.sqrt(size)) - 12 / self._rungs[rung] + luck


def costs(choices: Mapping[str, Any]) -> dict[str, float]:
    """A network's size and operations: those of a stage count for less the smaller its maps are."""
    stages = [
        choices[f"stages.{i}.depth"] * choices[f"stages.{i}.width"]
        * (choices[f"stages.{i}.expansion"] + choices[f"stages.{i}.kernel"]) for i in range(4)
    ]  # fmt: skip
    return {"params": sum(stages), "macs": sum(s * 64 / 4**i for i, s in enumerate(stages))}


def outcome_of(job: Job, workers: Workers, spec: StudySpec) -> Outcome:
    """What a finished job brings."""
    if isinstance(job, Build):
        found = costs(job.architecture.choices)
        return Outcome({"build": job.architecture.key, "file": "0" * 64 + ".onnx", "costs": found,
                        "uncounted": []})  # fmt: skip
    assert isinstance(job, Train)
    score = workers.score(job, len(spec.fidelity.rungs) - 1)
    return Outcome({
        "file": "2" * 64 + ".onnx", "costs": {},
        "score": {"score": score, "se": 0.3, "n": 3300},
        "confirm": {"score": score - 0.1, "se": 0.4, "n": 1700},
    })  # fmt: skip


class Hasty(Session):
    """A session that puts transactions together as long as it is told to."""

    together = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._events: list[Event] = []
        self._brought: dict[tuple[str, int, int], Evaluation] = {}

    def settle(self) -> None:
        """Writes what was put together; from now on each decision is a transaction."""
        self._write()
        self.together = False

    def _commit(
        self, evaluations: Sequence[Evaluation] = (), timings: Sequence[Timing] = ()
    ) -> None:
        if not self.together:
            return super()._commit(evaluations, timings)
        self._events += self.search.drain()
        self._brought |= {(e.key, e.rung, e.seed): e for e in evaluations}
        if len(self._events) >= TOGETHER:
            self._write()

    def _stored(self, job: Train, epochs: int) -> Mapping[str, Any] | None:
        if not self.together:
            return super()._stored(job, epochs)
        brought = self._brought.get((job.architecture.key, epochs, job.seed))
        return brought and brought.values

    def _write(self) -> None:
        trials = [self.search.trials[n] for n in sorted({e.trial for e in self._events})]
        evaluations, beaten = list(self._brought.values()), self.search.drain_beaten()
        self._store.commit(
            self.spec.name, self._epoch, self._events, trials, evaluations, (), beaten
        )
        self._events, self._brought = [], {}


def searched(session: Hasty, workers: Workers, trials: int, stretch: int) -> list[dict[str, float]]:
    """Drives a session to its end.

    How things stood at first, before and after the timed stretch of each tenth of the trials, and
    at the end.
    """
    marks = [_mark(session, workers, 0)]
    turns = [int(trials * tenth / TENTHS) - first
             for tenth in range(1, TENTHS + 1) for first in (stretch, 0)]  # fmt: skip
    decisions, asking, session.together = 0, True, stretch < trials / TENTHS
    while True:
        tally = session.search.tally
        ended = sum(tally.values()) - tally["running"]
        while turns and ended >= turns[0]:
            del turns[0]
            if len(turns) % 2:
                session.settle()
            marks.append(_mark(session, workers, decisions))
            if turns and not len(turns) % 2:
                session.together = stretch < trials / TENTHS
                print(f"\r{ended} of {trials} trials", end="", file=sys.stderr, flush=True)
        while asking and workers.idle:
            job = session.ask()
            if isinstance(job, Done):
                return [*marks, _mark(session, workers, decisions)]
            asking = not isinstance(job, Wait)
            if asking:
                decisions += 1
                workers.start(job)
        job, rung = workers.next()
        decisions += 1
        asking = True
        if isinstance(job, Train):
            values = workers.reached(job, rung)
            if session.report(job, rung, values) == "stop":
                session.tell(job, Outcome())
                workers.free()
                continue
            if rung < job.to_rung:
                workers.goes_on(job, rung)
                continue
            decisions += 1
        session.tell(job, outcome_of(job, workers, session.spec))
        workers.free()


def _mark(session: Session, workers: Workers, decisions: int) -> dict[str, float]:
    return {
        "trials": len(session.search.trials), "decisions": decisions,
        "wall_s": time.perf_counter(), "processor_s": time.process_time(),
        "simulated_s": workers.clock, "memory_mb": _resident_mb(),
    }  # fmt: skip


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measured(url: str, trials: int, folder: Path, stretch: int | None = None) -> dict[str, Any]:
    """One size's search."""
    task = TaskSpec("digits", (3, 32, 32), 10, examples=60000, digest="d" * 32)
    spec = StudySpec(
        STUDY, SPACE.name, task, "cpu", (BUILTIN["accuracy"], BUILTIN["macs"]),
        strategy="evolution", trials=trials, fidelity=Fidelity(epochs=9),
    )  # fmt: skip
    space, workers = SPACE.at(task), Workers(max(1, trials // 100), spec)
    with Store(url) as store:
        store.create(spec)
        epoch = store.claim(STUDY)
        strategy = create(spec.strategy, space, spec.objectives, seed=0)
        search = Search(spec, space, strategy, width=workers.idle)
        session = Hasty(search, store, epoch, Artifacts(folder / "artifacts"))
        stretch = stretch or trials // TENTHS
        marks = searched(session, workers, trials, stretch)
        store.release(STUDY, epoch)
        tally = search.tally
    first, last, end = marks[0], marks[-2], marks[-1]
    stretches = list(zip(marks[1:-1:2], marks[2:-1:2], strict=True))
    return {
        "commit": commit(), "trials": trials, "workers": max(1, trials // 100), "tally": tally,
        "decisions": int(last["decisions"]),
        "confirming_decisions": int(end["decisions"] - last["decisions"]),
        "confirming_s": end["wall_s"] - last["wall_s"],
        "confirming_decisions_a_second": _rate([(last, end)])["decisions_a_second"],
        "timed_trials": TENTHS * stretch,
        "search": _rate(stretches), "tenths": [_rate([s]) for s in stretches],
        "simulated_days": last["simulated_s"] / 86400,
        "memory_bytes_a_trial": 1e6 * (last["memory_mb"] - first["memory_mb"]) / trials,
        "database_bytes_a_trial": _size(url) / trials,
    }  # fmt: skip


def _rate(stretches: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, float]:
    """The rates of all stretches together, and the memory at their end."""
    passed = {n: sum(end[n] - start[n] for start, end in stretches)
              for n in ("decisions", "wall_s", "processor_s")}  # fmt: skip
    return {
        "decisions_a_second": passed["decisions"] / passed["wall_s"],
        "decisions_a_processor_second": passed["decisions"] / passed["processor_s"],
        "memory_mb": stretches[-1][1]["memory_mb"],
    }


def front(url: str) -> dict[str, Any]:
    """How long `nas front` takes: the query, and a whole process; the best of three.

    Both in processes of their own: in the search's, its million trials are looked through for
    garbage as the query goes.
    """
    ask = (
        "import sys, timeit; from nas import api; ask = lambda: api.front(sys.argv[1], "
        "storage=sys.argv[2]); found = ask(); "  # what is imported once is not the query's
        "print(min(timeit.repeat(ask, number=1, repeat=3)), len(found.members))"
    )
    query = [sys.executable, "-c", ask, STUDY, url]
    said = subprocess.run(query, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    command = [sys.executable, "-m", "nas", "front", STUDY, "--storage", url, "--json", "--quiet"]
    process = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        process.append(time.perf_counter() - began)
    return {
        "front_query_s": float(said[0]), "front_process_s": min(process), "members": int(said[1]),
        "front_commit": commit(), "front_load": os.getloadavg()[0],
    }  # fmt: skip


def _size(url: str) -> int:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        base = Path(str(parsed.database))
        return sum(p.stat().st_size for p in base.parent.glob(base.name + "*"))
    engine = create_engine(parsed)
    with engine.connect() as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    engine.dispose()
    return int(size)


@contextmanager
def database(storage: str | None, folder: Path, trials: int) -> Iterator[str]:
    """A database of its own for one size, gone again at the end."""
    if storage is None:
        yield f"sqlite:///{folder / f'{trials}.db'}"
        return
    server = create_engine(storage, isolation_level="AUTOCOMMIT")
    name = f"nas_scale_{trials}_{os.getpid()}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(storage).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The exponent with which each figure grows with the trials, by least squares of logarithms."""
    sizes = np.log([row["trials"] for row in rows])
    figures = {
        "seconds_a_decision": [1 / r["search"]["decisions_a_processor_second"] for r in rows],
        "memory": [r["memory_bytes_a_trial"] * r["trials"] for r in rows],
        "database": [r["database_bytes_a_trial"] * r["trials"] for r in rows],
        "front_query": [r["front_query_s"] for r in rows],
    }
    return {n: float(np.polyfit(sizes, np.log(f), 1)[0]) for n, f in figures.items()}


def table(document: Mapping[str, Any]) -> str:
    """The results as text."""
    kind = document["storage"]
    lines = [
        f"{kind}; {document['date']}; load {document['load']:.1f} on {document['cores']} cores",
        f"{'trials':>9}{'workers':>9}{'decisions/s':>13}{'last tenth':>12}{'a cpu second':>14}"
        f"{'confirming decisions/s':>24}{'memory B':>10}{'database B':>12}{'front s':>9}"
        f"{'process s':>11}  commit",
    ]
    for row in document["rows"]:
        lines.append(
            f"{row['trials']:>9}{row['workers']:>9}{row['search']['decisions_a_second']:>13.0f}"
            f"{row['tenths'][-1]['decisions_a_second']:>12.0f}"
            f"{row['search']['decisions_a_processor_second']:>14.0f}"
            f"{row['confirming_decisions'] / row['confirming_s']:>24.0f}"  # of older rows as well
            f"{row['memory_bytes_a_trial']:>10.0f}{row['database_bytes_a_trial']:>12.0f}"
            f"{row['front_query_s']:>9.2f}{row['front_process_s']:>11.2f}"
            f"  {row.get('commit', 'unknown')[:8]}"
        )
    if "growth" in document:
        grows = ", ".join(f"{n} {e:.2f}" for n, e in document["growth"].items())
        lines.append(f"grows as a power of the trials: {grows}")
    lines.append(
        f"targets: {TARGETS[kind]:.0f} decisions/s, confirming too, "
        f"front {FRONT_S:g} s, {MEMORY_B:g} B of memory"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, action="append", help="repeat it for more sizes")
    parser.add_argument("--stretch", type=int, help="time so many trials of every tenth")
    parser.add_argument("--storage", help="a PostgreSQL URL; SQLite by default")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where SQLite files stay")
    parser.add_argument("--json", type=Path, help="keep the results in this file, and go on there")
    given = parser.parse_args()
    if given.storage and not given.storage.startswith("postgresql"):
        parser.error("--storage is for a PostgreSQL server: leave it out for an SQLite database")
    kind = "postgresql" if given.storage else "sqlite"
    known = json.loads(given.json.read_text())["rows"] if given.json and given.json.exists() else []
    rows = {row["trials"]: row for row in known}
    for trials in given.trials or [10_000, 100_000]:
        rows[trials] = _row(given, trials, rows.get(trials))
        ordered = [rows[n] for n in sorted(rows)]
        document = {
            "benchmark": "scale", "storage": kind, "date": datetime.now(UTC).date().isoformat(),
            "versions": {n: version(n) for n in ("sqlalchemy", "numpy", "optuna", "psycopg")},
            "cores": os.cpu_count(), "load": os.getloadavg()[0], "rows": ordered,
        }  # fmt: skip
        if len(ordered) > 1:
            document["growth"] = growth(ordered)
        if given.json:
            given.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))


def _row(given: argparse.Namespace, trials: int, known: dict[str, Any] | None) -> dict[str, Any]:
    """A size's row: as it is known where its database is gone, else with the front timed now."""
    if known and not (given.keep and (given.keep / f"{trials}.db").exists()):
        return known
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="nas-scale-") as name,
        database(given.storage, given.keep or Path(name), trials) as url,
    ):
        found = known or _apart(url, trials, given.stretch, name)
        return {**found, **front(url)}


def _apart(url: str, trials: int, stretch: int | None, folder: str) -> dict[str, Any]:
    """The search in a process of its own, so that memory is of this size alone."""
    ask = "import json, sys, pathlib; sys.path.insert(0, sys.argv[1]); import scale; " \
          "print(json.dumps(scale.measured(sys.argv[2], int(sys.argv[3]), " \
          "pathlib.Path(sys.argv[4]), int(sys.argv[5]) or None)))"  # fmt: skip
    here = str(Path(__file__).resolve().parent)
    done = subprocess.run(
        [sys.executable, "-c", ask, here, url, str(trials), folder, str(stretch or 0)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
