"""The end of a search: the front's numbers again, where its membership is undecided.

First every near-front network is timed once more as the trained file, interleaved in one batch
with several fresh processes; then a stated share of the trials is spent on trainings with new
seeds: of a point that is undecided, or of the one likeliest to dominate it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nas.core.front import Row, known_rows, signed, standings
from nas.core.job import Measure, Source, Train, Workload
from nas.core.known import seed_deviation
from nas.core.study import StudySpec
from nas.core.trial import Trial, measurement_name

Slot = tuple[str, int, int]
NEAR = 0.02  # a lower share of redraws is not worth a measurement
DECIDED = 0.95
FAILURES = 2
PROCESSES = 3
REPEATS = 8  # of one network; a mean of nine trainings is known to a third of what one is
UNCONDITIONAL = 2  # repeats made even of a decided front: without any, the seed's noise is unknown
STEADY = 20  # the front is worked out anew once a result has come for so many points or repeats


@dataclass(frozen=True)
class Point:
    """A trial that may belong to the front: how likely, and who is likeliest to dominate it."""

    trial: int
    share: float
    rival: int | None


class Confirmation:
    """Chooses the confirming jobs, by the contenders and by what is under way.

    Of a large front, or one that was repeated often, the standings are those of some results ago:
    to work hundreds of points out takes a tenth of a second and more, and one result moves few.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self._trials: dict[int, Trial] = {}
        self._near: list[Point] = []  # as they were worked out last
        self._changed: set[int] = set()  # since then
        self._repeats = 0
        self._doubts: dict[int, float] = {}  # of those worth a repeat, how near to an even chance
        self._line: list[tuple[int, float, int]] = []  # of them, by trainings, doubt and number
        self._early = False

    def take(self, trial: Trial) -> None:
        """A contender for the front, as it stands now."""
        self.drop(trial.number)
        self._trials[trial.number] = trial
        self._repeats += _repeats(trial)
        self._changed.add(trial.number)

    def drop(self, number: int) -> None:
        """A trial contends no more."""
        gone = self._trials.pop(number, None)
        self._repeats -= _repeats(gone) if gone else 0
        self._changed.discard(number)

    def let_go(self, number: int) -> None:
        """Nobody trains a trial any more: it is in line, as it stands now, where it is in doubt."""
        trial, doubt = self._trials.get(number), self._doubts.get(number)
        if trial is not None and doubt is not None:
            heapq.heappush(self._line, (len(trial.trained), doubt, number))

    def next(self, busy: Collection[Slot], closing: bool) -> Measure | Train | None:
        """The next job, or None when nothing is left or all waits for jobs under way.

        A search that is `closing` still times its front, and trains nothing more.
        """
        if len(self._changed) > max(len(self._near), self._repeats) / STEADY:
            self._look()
        job = self._next(busy, closing)
        if job is None and self._changed and not busy:
            self._look()
            job = self._next(busy, closing)
        return job

    def _look(self) -> None:
        """Works out anew who may belong to the front."""
        self._near, self._changed = self._found() if self.spec.trains else [], set()
        self._line_up(self._early)

    def _next(self, busy: Collection[Slot], closing: bool) -> Measure | Train | None:
        """The next job by the front as it was worked out last."""
        if any(kind == "measure" for kind, _, _ in busy):
            return None
        return self._retime() or (None if closing else self._repeat(busy))

    def _found(self) -> list[Point]:
        """Trials that may belong to the front, with their membership."""
        trials = [self._trials[number] for number in sorted(self._trials)]
        rows = known_rows(self.spec, trials, seed_deviation(trials))
        _, shares = standings(self.spec, rows, draws=300)
        near = [
            (row, float(p))
            for row, p in zip(rows, shares, strict=True)
            if p >= NEAR and row[0].attempts < FAILURES
        ]
        rivals = self._rivals([row for row, _ in near])
        return [Point(t.number, p, rival) for ((t, _), p), rival in zip(near, rivals, strict=True)]

    def _retime(self) -> Measure | None:
        """All near-front files that were not yet measured as trained, in one batch.

        Under every workload that a constraint of the study names, on its own device.
        """
        own = self.spec.device
        asked = [("latency_ms", work) for device, work in self.spec.timings if device == own]
        asked += [(objective, Workload()) for objective in self.spec.probes]
        for objective, work in asked:
            name = measurement_name(objective, own, work.name, "trained")
            near = (self._trials.get(point.trial) for point in self._near)
            waiting = [t for t in near if t and t.trained and name not in t.measurements]
            if waiting:
                return Measure(
                    trials=tuple(t.number for t in waiting),
                    form="trained",
                    files=tuple(t.trained[0].file for t in waiting),
                    builds=tuple(t.build or "" for t in waiting),
                    device=own,
                    workload=work,
                    processes=PROCESSES,
                    objective=objective,
                    sources=tuple(map(_source, waiting)) if work.resolution else (),
                )
        return None

    def _repeat(self, busy: Collection[Slot]) -> Train | None:
        """One more training of an undecided point or its rival, the one with the fewest."""
        spent = self._repeats + sum(kind == "train" for kind, _, _ in busy)
        if spent >= round(self.spec.confirm * self.spec.trials):
            return None
        if self._early != (spent < UNCONDITIONAL):
            self._line_up(early=spent < UNCONDITIONAL)
        while self._line:
            runs, _, number = self._line[0]
            trial = self._trials.get(number)
            if trial is not None and runs == len(trial.trained) <= REPEATS:
                again = max(run.repeat for run in trial.trained) + 1
                if ("train", number, again) not in busy:
                    return train_job(self.spec, trial, repeat=again)
            heapq.heappop(self._line)  # it contends no more, or comes again when it is let go
        return None

    def _line_up(self, early: bool) -> None:
        """Puts the undecided points and their rivals, early on every point, in line."""
        doubts: dict[int, float] = {}
        for point in self._near:
            if early or point.share < DECIDED:
                doubt = abs(point.share - 0.5)
                for number in (point.trial, point.rival):
                    if number is not None:
                        doubts[number] = min(doubt, doubts.get(number, doubt))
        self._early, self._doubts, self._line = early, doubts, []
        for number in doubts:
            self.let_go(number)

    def _rivals(self, rows: Sequence[Row]) -> list[int | None]:
        """Of each near trial the near one that is likeliest to dominate it, if any may."""
        points = signed(self.spec.objectives, [m for _, m in rows])
        errors = np.array([[m[o.name].se for o in self.spec.objectives] for _, m in rows])
        found: list[int | None] = []
        for at in range(len(rows)):
            doubt = np.maximum(np.hypot(errors, errors[at]), 1e-9)
            ahead = np.clip((points[at] - points) / doubt, -4.0, 4.0)
            ahead[at] = -np.inf
            place = int(ahead.min(axis=1).argmax())
            found.append(rows[place][0].number if ahead[place].min() > -4.0 else None)
        return found


def _repeats(trial: Trial) -> int:
    """How many confirming trainings of a trial have been made."""
    return 0 if trial.reused else max(0, len(trial.trained) - 1)


def _source(trial: Trial) -> Source:
    """A trained trial's network, with the weights that its own first training left."""
    last = max((r for r in trial.rungs if not r.repeat), key=lambda r: r.rung, default=None)
    return Source(trial.architecture, last.checkpoint if last else None)


def train_job(spec: StudySpec, trial: Trial, repeat: int) -> Train:
    """The training of a trial that is still to do, from the last rung that left a checkpoint."""
    done = [r for r in trial.rungs if r.repeat == repeat and r.checkpoint]
    last = max(done, key=lambda r: r.rung, default=None)
    return Train(
        trial=trial.number,
        architecture=trial.architecture,
        build=trial.build or "",
        file=trial.file or "",
        seed=spec.seed + repeat,
        repeat=repeat,
        from_rung=last.rung if last else -1,
        to_rung=len(spec.fidelity.rungs) - 1,
        checkpoint=last.checkpoint if last else None,
    )
