"""A study's candidates on another device: whom to time first, and what changes there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.core import ledger
from nas.core.front import Front, front_of, known_rows, standings
from nas.core.known import seed_deviation, unique
from nas.core.limits import timing_of
from nas.core.measurement import Z90, Measurement
from nas.core.pareto import Array, non_dominated, normalise
from nas.core.study import StudySpec
from nas.core.trial import Event, Trial

FIELLER = 0.437  # variance of atanh(tau) is this over n - 4


@dataclass(frozen=True)
class Tau:
    """Rank correlation of `n` candidates between two devices; -1 reversed, 1 the same order.

    `low..high` holds the correlation of the whole space's candidates with 90 %: it is the doubt of
    having seen only `n` of them. `value` is None where no two can be told apart.
    """

    value: float | None
    low: float
    high: float
    n: int


def kendall(one: npt.ArrayLike, other: npt.ArrayLike) -> Tau:
    """Kendall's tau-b of two lists of values, with the interval of Fieller, Hartley and Pearson.

    Sources: Kendall 1945 (ties); Fieller, Hartley, Pearson, Biometrika 1957 (atanh(tau) is nearly
    normal). A perfect order is taken for one less by half a swapped pair, or its interval would
    have no width. Below five candidates the interval is everything.

    >>> kendall([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5]).value
    0.8666666666666667
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    upper = np.triu_indices(len(a), 1)
    first = np.sign(a[:, None] - a[None])[upper]
    second = np.sign(b[:, None] - b[None])[upper]
    untied = math.sqrt(float(np.sum(first != 0)) * float(np.sum(second != 0)))
    if not untied:
        return Tau(None, -1.0, 1.0, len(a))
    tau = float(np.sum(first * second)) / untied
    if len(a) < 5:
        return Tau(tau, -1.0, 1.0, len(a))
    most = 1 - 1 / len(first)
    centre = math.atanh(min(max(tau, -most), most))
    half = Z90 * math.sqrt(FIELLER / (len(a) - 4))
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    return Tau(tau, min(low, tau), max(high, tau), len(a))


def candidates(spec: StudySpec, trials: Sequence[Trial]) -> list[Trial]:
    """The trials that can ship, those likeliest on a front first.

    The rule: by the probability of being on the front of the study's own device; then by dominated
    distance, the least by which all objectives together, each in shares of its range, must improve
    before nothing dominates the point; then by number. Without numbers for all objectives a trial
    comes last.
    """
    able = [t for t in unique(trials) if t.trained or (t.file and not spec.trains)]
    rows = known_rows(spec, able, seed_deviation(trials))
    points, shares = standings(spec, rows)
    far = distances(points)
    place = {
        trial.number: (-share, distance)
        for (trial, _), share, distance in zip(rows, shares, far, strict=True)
    }
    return sorted(able, key=lambda t: (*place.get(t.number, (1.0, 0.0)), t.number))


def distances(points: Array) -> Array:
    """Dominated distance of each of the points `(N, M)`, all minimised; 0 on the front `(N,)`.

    It is the largest over the front of the smallest excess over any one objective.

    >>> distances(np.array([[0.0, 0.0], [1.0, 4.0], [4.0, 2.0]])).tolist()
    [0.0, 0.25, 0.5]
    """
    if len(points) == 0:
        return np.zeros(0)
    unit = normalise(points)
    front = unit[non_dominated(points)]
    excess: Array = (unit[:, None] - front[None]).min(axis=2).max(axis=1)
    return np.maximum(excess, 0.0)


def timed(
    events: Iterable[Event],
    device: str,
    bench: Mapping[str, str],
    objective: str = "latency_ms",
    workload: str = "b1",
) -> dict[int, int]:
    """The trials that retargets measured on a device and bench: in how many processes, the last."""
    found: dict[int, int] = {}
    for event in events:
        p = event.payload
        if p.get("job") != "retarget" or "error" in p:
            continue
        named = (p["device"], p.get("workload", "b1"), p["bench"], p["measurement"]["objective"])
        if named == (device, workload, bench, objective):
            found[event.trial] = p["processes"]
    return found


def searched(events: Iterable[Event]) -> list[Trial]:
    """The trials as the search alone left them, without what retargets brought."""
    trials: dict[int, Trial] = {}
    first: dict[str, int] = {}
    for event in events:
        if event.kind != "known" and event.payload.get("job") != "retarget":
            trial = trials[event.trial] = ledger.after(event, trials, first)
            first.setdefault(trial.key, trial.number)
    return list(trials.values())


@dataclass(frozen=True)
class Retarget:
    """The front of a study on a device beside that of the device it was searched on.

    Args:
        front: the front there.
        origin: the device of the search.
        tau: rank correlation of the latencies on both.
        joined: trials on this front and not on the search's. left: the reverse, of those that have
            a number here.
        measured, predicted, missing: how many candidates have which number here.
        failed: trial -> why it has none.
    """

    front: Front
    origin: str
    tau: Tau
    joined: tuple[int, ...]
    left: tuple[int, ...]
    measured: int
    predicted: int
    missing: int
    failed: Mapping[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What stands under `retarget` in the document, beside the front's own."""
        return {
            "from": self.origin,
            "to": self.front.device,
            "tau": vars(self.tau),
            "joined": list(self.joined),
            "left": list(self.left),
            "measured": self.measured,
            "predicted": self.predicted,
            "missing": self.missing,
            "failed": {str(number): reason for number, reason in self.failed.items()},
            "unlike": self.front.to_json()["unlike"],
        }


def compare(
    spec: StudySpec,
    before: Sequence[Trial],
    after: Sequence[Trial],
    device: str,
    failed: Mapping[int, str] | None = None,
) -> Retarget:
    """What a study looks like on a device.

    The correlation is of measured numbers where there are any there, else of predicted ones: as on
    a front, the two are not mixed.

    Args:
        spec: the study.
        before: its trials as the search left them. after: with all numbers of the device.
        device: where the front is of.
        failed: trials that could not be timed, and why.
    """
    here, there = front_of(spec, before), front_of(spec, after, device)
    numbers = {t.number: timing_of(t, device) for t in candidates(spec, after)}
    counted = [None if m is None else m.source for m in numbers.values()]
    source = "measured" if "measured" in counted else "predicted"
    pairs = _pairs(spec, before, {n: m for n, m in numbers.items() if m and m.source == source})
    ours, theirs = ({m.trial for m in f.members} for f in (here, there))
    return Retarget(
        front=there,
        origin=spec.device,
        tau=kendall(*zip(*pairs, strict=True)) if pairs else Tau(None, -1.0, 1.0, 0),
        joined=tuple(sorted(theirs - ours)),
        left=tuple(sorted(n for n in ours - theirs if numbers.get(n))),
        measured=counted.count("measured"),
        predicted=counted.count("predicted"),
        missing=counted.count(None),
        failed=dict(failed or {}),
    )


def _pairs(
    spec: StudySpec, before: Sequence[Trial], numbers: Mapping[int, Measurement]
) -> list[tuple[float, float]]:
    """The latencies of each candidate on the study's device and on the other one."""
    known = {t.number: timing_of(t, spec.device) for t in before}
    return [
        (one.value, other.value)
        for number, other in numbers.items()
        if (one := known.get(number)) is not None
    ]
