"""What a trial costs when nothing is trained: `nas` against Optuna with its SQLite storage.

    python benchmarks/overhead.py [--trials 1000] [--rival-trials N] [--json FILE]

Both sides search the same space of 24 decisions for the same two objectives, computed from the
choices, with the same samplers, each into an SQLite database of its own in one temporary folder.
Ours is the whole session as `nas search` drives it: engine, strategy, and a store that commits each
decision before it is acted on. The contenders take turns of a few trials, so whatever else the
machine does falls on all of them. Times are of the wall clock, and for ours of the processor too,
which is what a trial costs on an idle machine; the objectives' own time is left out. With
`--rival-trials` Optuna stops after its first N trials: its cost grows from trial to trial, so this
is in its favour, and takes minutes less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Decision, Integer
from nas.core.job import Build, Outcome
from nas.core.objective import BUILTIN
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.core.trial import History, Proposal
from nas.engine import Search
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store
from nas.strategies.choose import create
from nas.strategies.mirror import distribution
from nas.strategies.optuna import SHORT
from nas.strategies.protocol import Strategy

TURN = 25
RIVALS = {"random": "random", "nsga2": "nsga2", "evolution": "nsga2", "tpe": "tpe"}

_DECISIONS: list[Decision] = [
    *(Choice(f"stages.{i}.kernel", [3, 5, 7, 13, 31]) for i in range(4)),
    *(Choice(f"stages.{i}.width", [16, 32, 48, 64]) for i in range(4)),
    *(Choice(f"stages.{i}.mixer", ["plain", "gated", "split"]) for i in range(4)),
    *(Integer(f"stages.{i}.depth", 1, 8) for i in range(4)),
    *(Choice(f"stages.{i}.expansion", [1, 2, 4]) for i in range(4)),
    *(Choice(f"stages.{i}.norm", ["batch", "layer"]) for i in range(4)),
]
SPACE = SearchSpace("free", _DECISIONS, build=lambda choices, task: None)
OBJECTIVES = (BUILTIN["params"], BUILTIN["macs"])


def costs(choices: Mapping[str, Any]) -> dict[str, float]:
    """Two objectives that pull apart, as cheap as arithmetic."""
    size = speed = 0.0
    for i in range(4):
        depth, width = choices[f"stages.{i}.depth"], choices[f"stages.{i}.width"]
        kernel = choices[f"stages.{i}.kernel"]
        size += depth * width * (choices[f"stages.{i}.expansion"] + kernel)
        speed += 4000.0 / (depth * kernel) + width * (choices[f"stages.{i}.mixer"] == "plain")
    return {"params": size, "macs": speed}


class Stopwatch:
    """Adds up the seconds of one kind of work, trial by trial."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]

    def ms(self, trials: int) -> float:
        """Milliseconds a trial."""
        return 1e3 * self.wall / trials


class _TimedStrategy:
    def __init__(self, inner: Strategy) -> None:
        self._inner = inner
        self.watch = Stopwatch()

    def propose(self, history: History, count: int) -> list[Proposal]:
        with self.watch:
            return self._inner.propose(history, count)


class _TimedStore(Store):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.watch = Stopwatch()

    def commit(self, *args: Any, **named: Any) -> None:
        with self.watch:
            super().commit(*args, **named)


class Ours:
    """A session of ours, one trial at a time."""

    def __init__(self, name: str, trials: int, folder: Path) -> None:
        self.name = name
        task = TaskSpec("digits", (3, 32, 32), 10, digest="d" * 32)
        spec = StudySpec(name, SPACE.name, task, "cpu", OBJECTIVES, strategy=name, trials=trials)
        space = SPACE.at(task)
        self._strategy = _TimedStrategy(create(name, space, OBJECTIVES, seed=0))
        self._store = _TimedStore(f"sqlite:///{folder / f'{name}.db'}")
        self._store.create(spec)
        epoch = self._store.claim(name)
        search = Search(spec, space, self._strategy)
        self._session = Session(search, self._store, epoch, Artifacts(folder / "artifacts"))
        self._whole = Stopwatch()

    def step(self) -> None:
        """One trial, from the question to the stored result."""
        with self._whole:
            job = self._session.ask()
        if not isinstance(job, Build):
            return  # the network was met before, and its result taken over
        outcome = Outcome(
            {
                "build": job.architecture.key,
                "file": None,
                "costs": costs(job.architecture.choices),
                "uncounted": [],
            }
        )
        with self._whole:
            self._session.tell(job, outcome)

    def result(self, trials: int) -> dict[str, float]:
        """Milliseconds a trial: in the strategy, in the store, in both, and in all."""
        strategy, store = self._strategy.watch, self._store.watch
        return {
            "strategy_ms": strategy.ms(trials),
            "store_ms": store.ms(trials),
            "both_ms": strategy.ms(trials) + store.ms(trials),
            "both_processor_ms": 1e3 * (strategy.processor + store.processor) / trials,
            "session_ms": self._whole.ms(trials),
        }


class Optunas:
    """A study of Optuna's with the same sampler, one trial at a time."""

    def __init__(self, name: str, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._distributions = {d.name: distribution(d) for d in SPACE.listed}
        self._study = optuna.create_study(
            storage=f"sqlite:///{folder / f'optuna-{name}.db'}",
            sampler=getattr(optuna.samplers, SHORT[name])(seed=0),
            directions=[o.goal for o in OBJECTIVES],
        )
        self._whole = Stopwatch()

    def step(self) -> None:
        """One trial, from the question to the stored result."""
        with self._whole:
            trial = self._study.ask(self._distributions)
        raw = trial.params
        choices = {
            d.name: d.values[raw[d.name]] if isinstance(d, Choice) else raw[d.name]
            for d in SPACE.listed
        }
        values = costs(Architecture(SPACE.name, choices).choices)
        with self._whole:
            self._study.tell(trial, [values[o.name] for o in OBJECTIVES])

    def result(self, trials: int) -> dict[str, float]:
        """Milliseconds a trial."""
        return {"session_ms": self._whole.ms(trials)}


def compare(
    names: Sequence[str], trials: int, rival_trials: int, folder: Path
) -> list[dict[str, Any]]:
    """Every strategy of ours and its rival, in turns."""
    ours = {n: Ours(n, trials, folder) for n in names}
    theirs = {r: Optunas(r, folder) for r in sorted({RIVALS[n] for n in names})}
    done = 0
    while done < trials:
        turn = min(TURN, trials - done)
        for contender in ours.values():
            for _ in range(turn):
                contender.step()
        for rival in theirs.values():
            for _ in range(min(turn, max(0, rival_trials - done))):
                rival.step()
        done += turn
        print(f"\r{done} of {trials} trials", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = []
    for name in names:
        mine = ours[name].result(trials)
        rival_ms = theirs[RIVALS[name]].result(min(trials, rival_trials))["session_ms"]
        rows.append(
            {"strategy": name, **mine, "rival": RIVALS[name], "optuna_ms": rival_ms,
             "ratio": rival_ms / mine["both_ms"]}
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rival-trials", type=int, help="Optuna's, if fewer")
    parser.add_argument("--strategy", action="append", choices=sorted(RIVALS))
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    given = parser.parse_args()
    names = given.strategy or list(RIVALS)
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(names, given.trials, given.rival_trials or given.trials, Path(folder))
    document = {
        "benchmark": "overhead",
        "date": datetime.now(UTC).date().isoformat(),
        "trials": given.trials,
        "rival_trials": min(given.trials, given.rival_trials or given.trials),
        "decisions": len(SPACE.listed),
        "versions": {n: version(n) for n in ("optuna", "sqlalchemy", "numpy")}
        | {"python": platform.python_version()},
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "rows": rows,
    }
    print(table(document))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(document, indent=2) + "\n")


def table(document: Mapping[str, Any]) -> str:
    """The results as text."""
    versions = ", ".join(f"{n} {v}" for n, v in document["versions"].items())
    lines = [
        f"{document['trials']} trials (Optuna {document['rival_trials']}), "
        f"{document['decisions']} decisions, ms a trial; load {document['machine']['load']:.1f} "
        f"on {document['machine']['cores']} cores; "
        f"{document['date']}; {versions}",
        f"{'':<12}{'strategy':>10}{'store':>8}{'both':>8}{'(processor)':>13}{'session':>9}"
        f"{'Optuna + SQLite':>18}{'ratio':>8}",
    ]
    for r in document["rows"]:
        rival = f"{r['rival']} {r['optuna_ms']:.1f}"
        lines.append(
            f"{r['strategy']:<12}{r['strategy_ms']:>10.2f}{r['store_ms']:>8.2f}"
            f"{r['both_ms']:>8.2f}{r['both_processor_ms']:>13.2f}{r['session_ms']:>9.2f}"
            f"{rival:>18}{r['ratio']:>8.1f}"
        )
    ratios = [r["ratio"] for r in document["rows"]]
    lines.append(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
