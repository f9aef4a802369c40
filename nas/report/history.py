"""How a search went: hypervolume over evaluations and time, and where its budget was spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from nas.core.front import Front, known_rows, shippable, signed
from nas.core.known import seed_deviation
from nas.core.pareto import hypervolume, non_dominated
from nas.core.study import StudySpec
from nas.core.trial import Event, Trial

PAUSE = 600.0  # seconds without an event that may be a pause, where ten times the longest usual one
SPENT = ("trained", "stopped", "infeasible", "failed", "reused", "confirming", "running")


@dataclass(frozen=True)
class Point:
    """How far a search had come when its evaluation number `evaluations` ended.

    `seconds` are since its first event, without pauses. `hypervolume` is of the trials that had
    ended by then, in their numbers as they are known now, against the front's reference point.
    """

    evaluations: int
    seconds: float
    hypervolume: float


@dataclass(frozen=True)
class Spending:
    """What became of some of the budget: how many trials, and the epochs that were trained.

    `confirming` are repeats of trials that stand under another name, and adds none.
    """

    name: str
    trials: int
    epochs: int


def curve(
    spec: StudySpec,
    trials: Sequence[Trial],
    front: Front,
    events: Sequence[Event],
    moments: Sequence[datetime],
) -> list[Point]:
    """Hypervolume after every evaluation, the first being 1.

    Args:
        spec: of the study, at the device and with the objectives of the front.
        trials: of the study. front: says the reference point.
        events: of the study. moments: when each of them was recorded.
    """
    rows = shippable(known_rows(spec, trials, seed_deviation(trials)))
    points = signed(spec.objectives, [numbers for _, numbers in rows])
    place = {trial.number: i for i, (trial, _) in enumerate(rows)}
    reference = np.array(
        [o.sign * r for o, r in zip(spec.objectives, front.reference, strict=True)]
    )
    clock = working_seconds(moments)
    ended: set[int] = set()
    found, best, volume = [], points[:0], 0.0
    for event, seconds in zip(events, clock, strict=True):
        if event.kind != "told" or event.trial in ended:
            continue
        ended.add(event.trial)
        if event.trial in place:
            here = points[place[event.trial]]
            if not np.any(np.all(best <= here, axis=1)):
                best = np.vstack([best, here])
                best = best[non_dominated(best)]
                volume = hypervolume(best, reference)
        found.append(Point(len(ended), seconds, volume))
    return found


def working_seconds(moments: Sequence[datetime]) -> list[float]:
    """Seconds from the first moment to each, without the time between an end and a resumption.

    A pause is a gap of more than `PAUSE` that is ten times as long as nine of ten others.

    >>> from datetime import UTC, timedelta
    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> working_seconds([start + timedelta(seconds=s) for s in (0, 10, 20, 90_020, 90_030)])
    [0.0, 10.0, 20.0, 20.0, 30.0]
    """
    if not moments:
        return []
    gaps = np.diff([moment.timestamp() for moment in moments], prepend=moments[0].timestamp())
    usual = float(np.quantile(gaps[1:], 0.9, method="lower")) if len(gaps) > 2 else np.inf
    gaps[gaps > max(PAUSE, 10 * usual)] = 0.0
    return [float(s) for s in np.cumsum(gaps)]


def budget(trials: Sequence[Trial]) -> list[Spending]:
    """Where the trials and the epochs of training went; what is zero in both is left out.

    Epochs that were read from an earlier study or an equal network were not trained again, and
    count nowhere.
    """
    names = {"complete": "trained"}
    ends = {t.number: "reused" if t.reused else names.get(t.state, t.state) for t in trials}
    rows = []
    for name in SPENT:
        if name == "confirming":
            spent = sum(_epochs(t, repeats=True) for t in trials if not t.reused)
            rows.append(Spending(name, 0, spent))
            continue
        those = [t for t in trials if ends[t.number] == name]
        spent = sum(_epochs(t, repeats=False) for t in those if not t.reused)
        rows.append(Spending(name, len(those), spent))
    return [row for row in rows if row.trials or row.epochs]


def _epochs(trial: Trial, repeats: bool) -> int:
    """Epochs trained of a trial's first training, or of its repeats from other seeds."""
    spent = 0
    for repeat in {r.repeat for r in trial.rungs if bool(r.repeat) is repeats}:
        reached = [0]
        for rung in sorted((r for r in trial.rungs if r.repeat == repeat), key=lambda r: r.rung):
            spent += 0 if rung.reused else rung.epochs - reached[-1]
            reached.append(rung.epochs)
    return spent
