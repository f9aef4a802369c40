"""Which strategy a real search should have: the engine itself over spaces that nobody tabulated.

    python benchmarks/real_search.py --answers FOLDER [--seeds N] [--minutes M]
    python benchmarks/real_search.py --formula [--seeds N]

Each run is `nas.engine.Search` as `nas search` has it: proposals, builds, rungs, promotion, four
trials under way and two workers. Networks are trained for real, briefly (`real_answers.py`), and
the time that took is the clock of a simulated run; answers are shared and kept, so the command goes
on where it ended. Judged is what a search brings: the hypervolume of its trained networks, by
accuracy on images that no search saw and by operations, as a share of that of all runs together.
Operations count once as they are and once as logarithms. The corner is what a quarter of random
search's networks are beyond, in error and in operations.

Compared at equal numbers of trials, and at equal time: that which `evolution` took. `--formula`
plays the same with a made-up error for every seed in place of trainings (`real_formula.py`).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from kept import RESULTS, keep
from real_answers import FIDELITY, Answer, Answers
from real_formula import Formula

from nas.core.architecture import Architecture
from nas.core.job import Build, Done, Outcome, Train, Wait
from nas.core.objective import BUILTIN
from nas.core.pareto import hypervolume
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.engine import Search
from nas.strategies.choose import create
from nas.training.tasks import describe

Array = npt.NDArray[np.float64]
SPACES = ("largekernel", "resnet", "mbconv")
STRATEGIES = ("evolution", "surrogate", "nsga2", "random")
OBJECTIVES = (BUILTIN["accuracy"], BUILTIN["macs"])
TRIALS = 64
AT = (16, 32, 64)
WORKERS = 2
BUILDING = 1.0  # seconds, of a build on the simulated clock


class Source(Protocol):
    """Where answers come from: trainings, or a formula."""

    space: SearchSpace

    @property
    def task(self) -> TaskSpec:
        """The task as data."""
        ...

    def __call__(self, architecture: Architecture) -> Answer:
        """What a training brings."""
        ...

    def counts(self, architectures: Sequence[Architecture]) -> Sequence[Mapping[str, float]]:
        """The operations of some architectures."""
        ...


@dataclass(frozen=True)
class Played:
    """What one search found, in the order of its clock.

    `done` has a row for each network trained to the end: trials recorded by then, seconds,
    accuracy on the images kept aside, operations.
    """

    done: Array
    trials: int
    seconds: float


@dataclass(frozen=True, order=True)
class _Due:
    """Something that is over at a time: a build, or a training's rung."""

    at: float
    turn: int
    job: Any = None
    rung: int = 0


class Play:
    """One search under a simulated clock.

    Args:
        strategy: by name. answers: what is searched, and what trainings bring.
    """

    def __init__(
        self, strategy: str, answers: Source, seed: int, trials: int = TRIALS,
        workers: int = WORKERS,
    ) -> None:  # fmt: skip
        space = answers.space
        spec = StudySpec(
            "played", space.name, answers.task, "cpu", OBJECTIVES, strategy=strategy,
            trials=trials, fidelity=FIDELITY, confirm=0.0, seed=seed,
        )  # fmt: skip
        made = create(strategy, space, OBJECTIVES, (), seed, counts=answers.counts)
        self._search = Search(spec, space, made, width=workers + 2)
        self._answers = answers
        self._workers = workers
        self._due: list[_Due] = []
        self._now, self._turn = 0.0, 0
        self._done: list[tuple[float, float, float, float]] = []

    def run(self) -> Played:
        """Searches until every trial is recorded."""
        while True:
            while len(self._due) < self._workers and self._begin():
                pass
            if not self._due:
                break
            due = heapq.heappop(self._due)
            self._now = due.at
            self._over(due)
        rows = np.array(self._done, dtype=np.float64).reshape(-1, 4)
        return Played(rows, len(self._search.trials), self._now)

    def _begin(self) -> bool:
        """Starts the next job; False where there is none now."""
        job = self._search.ask()
        if isinstance(job, Wait | Done) or (isinstance(job, Train) and job.repeat):
            return False
        if isinstance(job, Build):
            self._later(BUILDING, job)
        else:
            assert isinstance(job, Train), "this study measures nothing"
            self._train(job, job.from_rung + 1)
        return True

    def _train(self, job: Train, rung: int) -> None:
        answer, rungs = self._answers(job.architecture), FIDELITY.rungs
        before = rungs[rung - 1] if rung else 0
        self._later(answer.seconds * (rungs[rung] - before) / rungs[-1], job, rung)

    def _later(self, seconds: float, job: Any, rung: int = 0) -> None:
        self._turn += 1
        heapq.heappush(self._due, _Due(self._now + seconds, self._turn, job, rung))

    def _over(self, due: _Due) -> None:
        job, answer = due.job, self._answers(due.job.architecture)
        if isinstance(job, Build):
            built = {"build": job.architecture.key, "file": "", "costs": dict(answer.costs)}
            return self._search.tell(job, Outcome(built))
        if answer.error is not None:
            return self._search.tell(job, Outcome(error=answer.error))
        last = len(FIDELITY.rungs) - 1
        score = answer.score if due.rung == last else answer.rung
        values = {"epochs": FIDELITY.rungs[due.rung], "score": score, "n": 1, "checkpoint": "kept"}
        if self._search.report(job, due.rung, values) == "stop":
            return self._search.tell(job, Outcome())
        if due.rung < last:
            return self._train(job, due.rung + 1)
        found = {"score": answer.score, "se": 0.0, "n": 1}
        confirm = {"score": answer.confirm, "se": 0.0, "n": 1}
        self._search.tell(job, Outcome({"file": "", "score": found, "confirm": confirm}))
        tally = self._search.tally
        decided = float(sum(n for state, n in tally.items() if state != "running"))
        self._done.append((decided, self._now, answer.confirm, answer.costs["macs"]))
        return None


# --- what is made of the runs ------------------------------------------------------------------


def minimised(rows: Array, logarithmic: bool) -> Array:
    """Error and operations of `done` rows, `(N, 2)`."""
    cost = np.log10(rows[:, 3]) if logarithmic else rows[:, 3]
    return np.column_stack([100.0 - rows[:, 2], cost])


class Yardstick:
    """Shares of the hypervolume of all runs together, on one scale of operations.

    Args:
        runs: the `done` rows of all runs. usual: those that set the corner, which a quarter of
            them are beyond.
    """

    def __init__(self, runs: Array, usual: Array, logarithmic: bool) -> None:
        self._logarithmic = logarithmic
        self._corner = np.quantile(minimised(usual, logarithmic), 0.75, axis=0)
        self._all = hypervolume(minimised(runs, logarithmic), self._corner)

    def __call__(self, rows: Array) -> float:
        """The share that some rows reach."""
        points = minimised(rows, self._logarithmic)
        return hypervolume(points, self._corner) / self._all if len(rows) else 0.0


def compared(runs: Mapping[str, Sequence[Played]], apart: bool) -> dict[str, Any]:
    """Mean share of each strategy after so many trials, and in the time evolution took for them.

    Args:
        runs: of each strategy, one for each seed. apart: whether each seed is a task of its own.

    Returns:
        `{"linear" | "logarithmic": {strategy: {"trials" | "time": {"16": share}}}}`
    """
    seeds = range(len(next(iter(runs.values()))))
    found: dict[str, Any] = {}
    for scale in ("linear", "logarithmic"):
        cells: dict[str, Any] = {name: {"trials": {}, "time": {}} for name in runs}
        for seed in seeds:
            share = _yardstick(runs, [seed] if apart else seeds, scale == "logarithmic")
            for n in AT:
                if n > min(p.trials for played in runs.values() for p in played):
                    continue
                for name, played in runs.items():
                    rows = played[seed].done
                    clock = _clock(runs.get("evolution", played)[seed], n)
                    by = {"trials": rows[rows[:, 0] <= n], "time": rows[rows[:, 1] <= clock]}
                    for kind, part in by.items():
                        cells[name][kind].setdefault(str(n), []).append(share(part))
        found[scale] = {
            name: {kind: {n: _mean(v) for n, v in row.items()} for kind, row in kinds.items()}
            for name, kinds in cells.items()
        }
    return found


def _yardstick(
    runs: Mapping[str, Sequence[Played]], seeds: Sequence[int], logarithmic: bool
) -> Yardstick:
    """The measure of some seeds' runs; its corner is set by random search, where that was run."""
    usual = runs.get("random", [p for played in runs.values() for p in played])
    if "random" in runs:
        usual = [usual[seed] for seed in seeds]
    every = [played[seed].done for played in runs.values() for seed in seeds]
    return Yardstick(np.concatenate(every), np.concatenate([p.done for p in usual]), logarithmic)


def _clock(played: Played, trials: int) -> float:
    """When so many trials were decided, as far as trained networks tell."""
    until = played.done[played.done[:, 0] <= trials]
    return float(until[-1, 1]) if len(until) else played.seconds


def _mean(values: Iterable[float]) -> float:
    return round(statistics.mean(values), 4)


def table(spaces: Mapping[str, Any]) -> str:
    """The shares as text."""
    lines = []
    for space, found in spaces.items():
        for scale, strategies in found["shares"].items():
            lines.append(f"{space}, operations {scale}, {found['seeds']} seeds")
            for name, cells in strategies.items():
                parts = [
                    f"{by} " + " ".join(f"{n}: {v:.3f}" for n, v in row.items())
                    for by, row in cells.items()
                ]
                lines.append(f"  {name:<12}{'   '.join(parts)}   {found['seconds'][name]:.0f} s")
    return "\n".join(lines)


def document(runs: Mapping[str, Any], apart: bool) -> dict[str, Any]:
    """Every space of which some seeds are whole, and its runs."""
    spaces = {}
    for space in {key.split("/")[0]: None for key in runs}:
        played: dict[str, dict[int, Played]] = {}
        for key, row in runs.items():
            where, name, seed = key.split("/")
            if where == space:
                done = np.array(row["done"]).reshape(-1, 4)
                run = Played(done, row["trials"], row["seconds"])
                played.setdefault(name, {})[int(seed)] = run
        whole = sorted(set.intersection(*(set(p) for p in played.values())))
        if whole:
            kept = {name: [p[s] for s in whole] for name, p in played.items()}
            spaces[space] = {
                "seeds": len(whole),
                "seconds": {n: _mean(p.seconds for p in ps) for n, ps in kept.items()},
                "shares": compared(kept, apart),
            }
    return {"spaces": spaces, "workers": WORKERS, "runs": dict(runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--answers", type=Path, help="folder where trainings are kept")
    where.add_argument("--formula", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--spaces", default=",".join(SPACES))
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    name = "real_formula" if given.formula else "real_search"
    out = given.out or RESULTS / f"{name}.json"
    runs = json.loads(out.read_text())["runs"] if out.is_file() else {}
    for seed in range(given.seeds):
        for space in given.spaces.split(","):
            answers: Source = (
                Formula(space, describe("digits"), seed)
                if given.formula
                else Answers(space, given.answers)
            )
            for strategy in given.strategies.split(","):
                key = f"{space}/{strategy}/{seed}"
                if key in runs or time.monotonic() > end:
                    continue
                played = Play(strategy, answers, seed, given.trials).run()
                runs[key] = {
                    "trials": played.trials, "seconds": round(played.seconds, 2),
                    "done": [[round(float(v), 3) for v in row] for row in played.done],
                }  # fmt: skip
                keep(name, document(runs, given.formula), out)
                print(key, f"{played.seconds:.0f} s simulated", file=sys.stderr, flush=True)
    print(table(document(runs, given.formula)["spaces"]))


if __name__ == "__main__":
    main()
