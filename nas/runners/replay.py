"""Any strategy with any promotion rule on a tabulated benchmark, under a simulated clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture
from nas.core.pareto import non_dominated
from nas.core.promotion import RULES, Standing, bracket, judged, leading
from nas.core.trial import Event, History, Proposal
from nas.runners.table import Table
from nas.strategies.protocol import Strategy, resumes

REPEATS = 50
REDUCTION = 3


@dataclass(frozen=True)
class Run:
    """One search of a table.

    Args:
        seed: what the observed column and the strategy were drawn by.
        curve: `(evaluations, share of the true hypervolume)` after each evaluation.
        epochs_curve: `(simulated epochs, share)`; a table without fidelities trains for 1 epoch.
        stopped: evaluations that the promotion rule ended early, and nobody resumed.
        asks: distinct architectures whose known costs the strategy asked for before proposing.
    """

    seed: int
    curve: tuple[tuple[int, float], ...]
    epochs_curve: tuple[tuple[float, float], ...]
    stopped: int = 0
    asks: int = 0

    def reached(self, share: float) -> int | None:
        """Evaluations after which so much of the hypervolume was found, or None."""
        return next((n for n, ratio in self.curve if ratio >= share), None)

    def epochs_to(self, share: float) -> float | None:
        """Simulated epochs after which so much of the hypervolume was found, or None."""
        return next((e for e, ratio in self.epochs_curve if ratio >= share), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data, shares rounded to a millionth."""
        return {
            "seed": self.seed,
            "curve": [[n, round(r, 6)] for n, r in self.curve],
            "epochs_curve": [[round(e, 6), round(r, 6)] for e, r in self.epochs_curve],
            "stopped": self.stopped,
            "cost_asks": self.asks,
        }


class Sight:
    """What the run of a seed sees of a table's rows.

    One seed column, which the run's seed draws; another one that the row has, where that cell is
    blank.
    """

    def __init__(self, table: Table, seed: int) -> None:
        self._table = table
        self._seed = seed
        self._column = np.random.default_rng([seed, 1]).random()

    def __call__(self, row: int, values: npt.NDArray[np.float64]) -> float:
        """What is seen of a row of some values, `(rows, seeds)`."""
        cells = values[row]
        mine = cells[int(self._column * len(cells))]
        if np.isfinite(mine):
            return float(mine)
        have = cells[np.isfinite(cells)]
        return float(have[int(np.random.default_rng([self._seed, row]).integers(len(have)))])

    def values(self, row: int) -> dict[str, float]:
        """Every objective of a row, by name."""
        listed = zip(self._table.objectives, self._table.values, strict=True)
        return {o.name: self(row, values) for o, values in listed}

    def costs(self, row: int) -> dict[str, float]:
        """Those objectives of a row that are known before training, by name."""
        listed = zip(self._table.objectives, self._table.values, self._table.known, strict=True)
        return {o.name: self(row, values) for o, values, known in listed if known}


class Oracle:
    """What is known of any architecture before training, with the asks counted.

    It is what the run of the same seed is told of the row (of the nearest one without a row).
    """

    def __init__(self, table: Table, seed: int) -> None:
        self._table = table
        self._sight = Sight(table, seed)
        self._asked: set[Architecture] = set()

    @property
    def asks(self) -> int:
        """How many distinct architectures were asked for."""
        return len(self._asked)

    def __call__(self, architecture: Architecture) -> dict[str, float]:
        """The known objectives of an architecture, by name."""
        self._asked.add(architecture)
        return self._sight.costs(self._table.row(architecture))


@dataclass
class _Trial:
    """A trial: its row, the rungs still before it, who waits for its result, epochs so far."""

    row: int
    rungs: list[tuple[int, float, float]]
    twins: list[int] = field(default_factory=list)
    epochs: float = 0.0


class Replay:
    """A strategy that is told rows of a table instead of trained networks.

    An evaluation is a distinct row. A row that was asked for before is free: the trial is told the
    first one's result, at most `REPEATS` times in a row, then the run ends. Observed is one seed
    column (`Sight`); scored is the mean over columns, of what was trained to the end.

    Args:
        table: what is searched.
        strategy: who proposes.
        seed: draws the observed columns.
        workers: how many trials train at once.
        promotion: a rule of `nas.core.promotion`; needs the table's fidelities to have an effect.
    """

    def __init__(
        self,
        table: Table,
        strategy: Strategy,
        seed: int,
        workers: int = 1,
        promotion: str = "none",
    ) -> None:
        self._table = table
        self._strategy = strategy
        self._seed = seed
        self._workers = workers
        self._promotion = promotion
        self._sight = Sight(table, seed)
        self._history = History()
        self._running: dict[int, _Trial] = {}
        self._first: dict[int, int] = {}
        self._standings: dict[tuple[int, int], list[Standing]] = {}
        self._used = np.zeros(len(table), dtype=bool)
        self._front: npt.NDArray[np.float64] = np.zeros((0, len(table.objectives)))
        self._share = 0.0
        self._ended: set[int] = set()
        self._clock: list[tuple[float, int]] = []
        self._curve: list[tuple[int, float]] = []
        self._epochs: list[tuple[float, float]] = []
        self._stopped: dict[int, _Trial] = {}

    def run(self, trials: int, until: float = math.inf) -> Run:
        """Searches until so many evaluations are done, or nothing new is proposed.

        Args:
            trials: evaluations at most.
            until: share of the hypervolume at which nothing more is started.
        """
        now, repeats = 0.0, 0
        while True:
            while (
                len(self._running) < self._workers
                and self._used.sum() < trials
                and repeats <= REPEATS
                and self._share < until
            ):
                repeats = 0 if self._start(now) else repeats + 1
            if not self._clock:
                break
            now, number = heapq.heappop(self._clock)
            self._rung(number, now)
        return Run(self._seed, tuple(self._curve), tuple(self._epochs), len(self._stopped))

    def _start(self, now: float) -> bool:
        """Starts the next proposal; False where it repeats an earlier one."""
        [proposal] = self._strategy.propose(self._history, 1)
        if proposal.resumes is not None:
            self._resume(proposal.resumes, now)
            return True
        number = len(self._history.proposals)
        row = self._table.row(proposal.architecture, self._used)
        self._proposed(number, row, proposal)
        if self._used[row]:
            first = self._first[row]
            if first in self._running:
                self._running[first].twins.append(number)
            else:
                self._copy(number, first)
            return False
        self._used[row] = True
        self._first[row] = number
        built = {"job": "build", "build": str(row), "file": "", "costs": self._sight.costs(row)}
        self._happened("reported", number, built)
        trial = _Trial(row, self._rungs(row))
        self._running[number] = trial
        heapq.heappush(self._clock, (now + trial.rungs[0][1], number))
        return True

    def _resume(self, number: int, now: float) -> None:
        """A stopped trial goes on where it was stopped."""
        trial = self._running[number] = self._stopped.pop(number)
        self._happened("resumed", number, {})
        heapq.heappush(self._clock, (now + trial.rungs[0][1] - trial.epochs, number))

    def _proposed(self, number: int, row: int, proposal: Proposal) -> None:
        """Records a proposal as the architecture that the table really has, and what was asked."""
        asked = architecture = proposal.architecture
        if not self._table.complete:
            architecture = self._table.architecture(row)
        payload = {"architecture": architecture.to_json(), "origin": proposal.origin,
                   "notes": dict(proposal.notes)}  # fmt: skip
        if architecture != asked:
            payload["asked"] = asked.to_json()
        self._happened("proposed", number, payload)

    def _rungs(self, row: int) -> list[tuple[int, float, float]]:
        """`(rung, epochs, first objective)` of each training on the way, the full one last."""
        full = self._sight(row, self._table.values[0])
        levels = self._table.levels
        shorter = [
            (i, level.epochs, self._sight(row, level.values))
            for i, level in enumerate(levels[:-1])
            if np.isfinite(level.values[row]).any()
        ]
        epochs = levels[-1].epochs if levels else 1.0
        return [*shorter, (max(0, len(levels) - 1), epochs, full)]

    def _rung(self, number: int, now: float) -> None:
        """A trial reached a rung: it goes on, is stopped, or is done."""
        trial = self._running[number]
        rung, epochs, value = trial.rungs.pop(0)
        trial.epochs = epochs
        values = self._sight.values(trial.row) | {self._table.objectives[0].name: value}
        if not trial.rungs:
            if self._table.levels:
                self._report(number, rung, epochs, value, "continue")
            self._score(trial.row)
            return self._end(number, "complete", values, now)
        goes_on = self._promoted(number, rung, value, trial.row)
        self._report(number, rung, epochs, value, "continue" if goes_on else "stop")
        if goes_on:
            heapq.heappush(self._clock, (now + trial.rungs[0][1] - epochs, number))
            return None
        self._end(number, "stopped", self._known(values), now)
        self._stopped[number] = trial
        return None

    def _promoted(self, number: int, rung: int, value: float, row: int) -> bool:
        """Whether the promotion rule lets a trial go on, among those of its bracket."""
        mine, levels = 0, [level.epochs for level in self._table.levels]
        if number in self._history.resumed:
            return True
        late = self._promotion == "halving" and resumes(self._strategy)
        if late and rung != judged(levels, REDUCTION):
            return True
        if self._promotion == "hyperband":
            mine = bracket(number, len(levels), REDUCTION)
            if rung < mine:
                return True
        objectives = self._table.objectives
        values = self._known(self._sight.values(row) | {objectives[0].name: value})
        standing = Standing(tuple(o.sign * values[o.name] for o in objectives if o.name in values))
        earlier = self._standings.setdefault((mine, rung), [])
        rule = leading if late else RULES[self._promotion]
        kept = rule(earlier, standing, REDUCTION)
        earlier.append(standing)
        return kept

    def _known(self, values: Mapping[str, float]) -> dict[str, float]:
        """Those that are known before the end of the training: the first, and the costs."""
        kept = zip(self._table.objectives, self._table.known, strict=True)
        names = [o.name for i, (o, known) in enumerate(kept) if known or i == 0]
        return {n: values[n] for n in names}

    def _report(self, number: int, rung: int, epochs: float, value: float, decision: str) -> None:
        """A rung, as a training reports it: an error is reported as the score it is short of."""
        score = 100.0 - value if self._table.objectives[0].name == "error" else value
        found = {"epochs": epochs, "score": score, "n": 0}
        self._happened("reported", number, {"job": "train", "repeat": 0, "rung": rung,
                                            "values": found, "decision": decision})  # fmt: skip

    def _end(self, number: int, state: str, values: Mapping[str, float], now: float) -> None:
        payload = {"state": state, "values": dict(values), "violations": {}, "error": None}
        self._happened("told", number, payload)
        trial = self._running.pop(number)
        for twin in trial.twins:
            self._copy(twin, number)
        trial.twins.clear()
        self._ended.add(trial.row)
        self._curve.append((len(self._ended), self._share))
        self._epochs.append((now, self._share))

    def _copy(self, number: int, first: int) -> None:
        payload = self._history.results[first].payload
        self._happened("told", number, {**payload, "reused": f"trial {first}"})

    def _score(self, row: int) -> None:
        """Takes a row into the front of what was trained to the end."""
        point = self._table.scored[row]
        if (self._front <= point).all(axis=1).any():
            return
        points = np.vstack([self._front, point])
        self._front = points[non_dominated(points)]
        self._share = self._table.share(self._front)

    def _happened(self, kind: Any, number: int, payload: Mapping[str, Any]) -> None:
        self._history.append(Event(kind, number, payload))


def summary(runs: Iterable[Run], shares: Iterable[float] = (0.9, 0.95, 0.99)) -> dict[str, Any]:
    """Evaluations and epochs to each share of the hypervolume, and the last share, over seeds.

    `low` and `high` are the 5th and 95th percentile of the seeds; a run that did not get so far
    counts as later than all that did, and a median among those is None.
    """
    runs = list(runs)
    return {
        "seeds": len(runs),
        "final": _spread([r.curve[-1][1] if r.curve else 0.0 for r in runs]),
        "evaluations": {f"{s:g}": _spread([r.reached(s) for r in runs]) for s in shares},
        "epochs": {f"{s:g}": _spread([r.epochs_to(s) for r in runs]) for s in shares},
        "stopped": sum(r.stopped for r in runs),
        "cost_asks": _spread([r.asks for r in runs]),
    }


def _spread(found: list[Any]) -> dict[str, Any]:
    values = np.sort([np.inf if v is None else float(v) for v in found])

    def at(share: float) -> float | None:
        place = values[round(share * (len(values) - 1))]
        return float(place) if np.isfinite(place) else None

    if len(values) % 2 or not len(values):
        median = at(0.5) if len(values) else None
    else:
        middle = values[len(values) // 2 - 1 : len(values) // 2 + 1].mean()
        median = float(middle) if np.isfinite(middle) else None
    reached = int(np.isfinite(values).sum())
    return {"median": median, "low": at(0.05), "high": at(0.95), "reached": reached}
