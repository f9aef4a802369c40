"""The Pareto front of a study: numbers with intervals, and how likely each member belongs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nas.core.contenders import CROWD, Contenders
from nas.core.known import measure, seed_deviation, unique
from nas.core.limits import kindest, number_of, timing_of, violation
from nas.core.luck import believed, luck
from nas.core.measurement import Measurement
from nas.core.membership import membership, verdict
from nas.core.objective import PROBED, TIMED, Constraint, Objective, known_objectives
from nas.core.pareto import Array, hypervolume, non_dominated
from nas.core.study import StudySpec
from nas.core.trial import State, Trial

STATES: tuple[State, ...] = ("complete", "stopped", "infeasible", "failed", "running")
NEAR = 0.05  # a point off the front that belongs less likely is not worth a mention


@dataclass(frozen=True)
class Member:
    """A point of the front: a trial, its numbers, and the probability that it belongs.

    `limits` has what of it is held against each constraint of the study, where that is known; it is
    worked out from trials, and not kept in a database.
    """

    trial: int
    key: str
    choices: Mapping[str, Any]
    membership: float
    measurements: Mapping[str, Measurement]
    limits: Mapping[str, Measurement] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """A row of the document that scripts rely on; `verdict` is the membership in a word."""
        return {
            "trial": self.trial,
            "key": self.key,
            "choices": dict(self.choices),
            "membership": self.membership,
            "verdict": verdict(self.membership),
            "measurements": {n: v.to_json() for n, v in self.measurements.items()},
            "limits": {text: m.to_json() for text, m in self.limits.items()},
        }


@dataclass(frozen=True)
class Front:
    """What a study found so far, as `nas front` shows it.

    `others` are trials that a member beats in the numbers as they are, and that may belong all the
    same, with `NEAR` at least. `unlike` says of a member why its latency may not be compared with
    the first one's: it was taken elsewhere, by other rules or under another runtime; `elsewhere`
    says the same of trials that are not on the front, and may look beaten for that. All are
    worked out from trials and not kept in a database. So is `untouched`: the network that a user
    brought, trial 0, wherever its numbers stand.
    """

    study: str
    space: str
    device: str
    objectives: tuple[Objective, ...]
    members: tuple[Member, ...]
    trials: Mapping[str, int]
    hypervolume: float
    reference: tuple[float, ...]
    others: tuple[Member, ...] = field(default=(), compare=False)
    unlike: Mapping[int, Sequence[str]] = field(default_factory=dict, compare=False)
    elsewhere: Mapping[int, Sequence[str]] = field(default_factory=dict, compare=False)
    untouched: Member | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The document that scripts rely on."""
        return {
            "study": self.study,
            "space": self.space,
            "device": self.device,
            "objectives": [
                {"name": o.name, "unit": o.unit, "goal": o.goal} for o in self.objectives
            ],
            "trials": dict(self.trials),
            "hypervolume": self.hypervolume,
            "reference": list(self.reference),
            "front": [m.to_json() for m in self.members],
            "possible": [
                {"trial": m.trial, "key": m.key, "membership": m.membership} for m in self.others
            ],
            "unlike": {str(number): list(reasons) for number, reasons in self.unlike.items()},
            "elsewhere": {str(number): list(reasons) for number, reasons in self.elsewhere.items()},
            "untouched": self.untouched.to_json() if self.untouched else None,
        }


def front_of(
    spec: StudySpec,
    trials: Sequence[Trial],
    device: str | None = None,
    tally: Mapping[str, int] | None = None,
    first: Trial | None = None,
) -> Front:
    """The non-dominated trials among those complete and feasible, with every objective known.

    On another device than the study's, latencies are of that device, and so are the constraints
    that name it. Of a study on its own device the contenders are enough (`contending`); they come
    with the `tally` of all its trials by state, and with the `first` of them.
    """
    elsewhere = device not in (None, spec.device)
    spec = moved(spec, trials, device) if device and elsewhere else spec
    near = trials if elsewhere or tally is not None else contending(spec, trials)
    known = known_rows(spec, near, seed_deviation(near))
    rows = shippable([r for r in known if not elsewhere or _keeps(r[0], spec)])
    points, shares = standings(spec, rows, among=known)
    reference = reference_point(points)
    inside = non_dominated(points)
    found = [
        Member(t.number, t.key, dict(t.architecture.choices), float(share), m, held(t, spec))
        for (t, m), share, kept in zip(rows, shares, inside, strict=True)
        if kept or share >= NEAR or t.number == 0
    ]
    on = {t.number for (t, _), kept in zip(rows, inside, strict=True) if kept}
    members = [m for m in found if m.trial in on]
    members.sort(key=lambda m: m.measurements[spec.objectives[-1].name].value)
    others = [m for m in found if m.trial not in on and m.membership >= NEAR]
    others.sort(key=lambda m: -m.membership)
    return Front(
        study=spec.name,
        space=spec.space,
        device=spec.device,
        objectives=spec.objectives,
        members=tuple(members),
        trials=dict(tally or counts(trials)),
        hypervolume=hypervolume(points, reference) if len(points) else 0.0,
        reference=tuple(float(o.sign * r) for o, r in zip(spec.objectives, reference, strict=True)),
        others=tuple(others),
        untouched=untouched(spec, [*([first] if first else []), *trials], found),
    )


def untouched(
    spec: StudySpec, trials: Sequence[Trial], found: Sequence[Member] = ()
) -> Member | None:
    """The network that a user brought, with what is known of it: it may break a constraint."""
    first = next((t for t in trials if t.number == 0), None)
    if first is None or not spec.network:
        return None
    deviation = seed_deviation(trials)
    numbers = {o.name: measure(first, o, spec, deviation) for o in spec.objectives}
    known = {n: m for n, m in numbers.items() if m is not None}
    standing = next((m.membership for m in found if m.trial == first.number), 0.0)
    return Member(first.number, first.key, dict(first.architecture.choices), standing, known)


def contending(spec: StudySpec, trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials that may be on the front, from what was known when they were told."""
    found = unique(trials)
    if len(found) <= CROWD:
        return found
    band = Contenders()
    for place, trial in enumerate(found):
        band.add(place, standing_of(spec, trial))
    return [found[place] for place in band.numbers]


def standing_of(spec: StudySpec, trial: Trial) -> list[float]:
    """A told trial's objectives, minimised; NaN for what is not known."""
    return [o.sign * trial.values.get(o.name, math.nan) for o in spec.objectives]


def moved(spec: StudySpec, trials: Sequence[Trial], device: str) -> StudySpec:
    """The study on another device: without objectives that are only measured, and were not there.

    A memory or an energy is not predicted, and would leave nothing on the front.
    """
    missing = {
        probe
        for probe in spec.probes
        if not any(timing_of(t, device, objective=probe) for t in trials)
    }
    kept = tuple(o for o in spec.objectives if o.name not in missing)
    return replace(spec, device=device, objectives=kept or spec.objectives)


Row = tuple[Trial, dict[str, Measurement]]


def standings(
    spec: StudySpec, rows: Sequence[Row], draws: int = 1000, among: Sequence[Row] = ()
) -> tuple[Array, Array]:
    """The rows as points to minimise `(N, M)`, and how likely each is on their front `(N,)`.

    Doubt that all rows have together counts only as far as it moves one against another: the
    images that every network was scored on (`nas.core.luck`, from all rows `among` which they
    are), the error of a predictor that all latencies are from.
    """
    points = signed(spec.objectives, [m for _, m in rows])
    if not len(rows):
        return points, np.zeros(0)
    means = points.copy()
    own = np.array([[m[o.name].se for o in spec.objectives] for _, m in rows])
    shared = np.zeros_like(own)
    for i, objective in enumerate(spec.objectives):
        if objective.name in (spec.task.score_name, "error") and all(t.trained for t, _ in rows):
            means[:, i], own[:, i] = _luckless(spec, i, rows, among or rows)
        elif objective.name.partition("@")[0] in TIMED:
            own[:, i], shared[:, i] = _apart(own[:, i], [m[objective.name] for _, m in rows])
    return points, membership(means, own, shared, draws)


def _luckless(
    spec: StudySpec, place: int, rows: Sequence[Row], among: Sequence[Row]
) -> tuple[Array, Array]:
    """Scores as they are believed, minimised, and the standard error that is left of each."""
    trials = [t for t, _ in among]
    points = signed(spec.objectives, [m for _, m in among])
    others = np.delete(points, place, axis=1)
    means, noise = believed(points[:, place], others, luck(trials))
    at = {t.number: i for i, t in enumerate(trials)}
    mine = [at[t.number] for t, _ in rows]
    return means[mine], np.sqrt(noise[mine])


def _apart(errors: Array, found: Sequence[Measurement]) -> tuple[Array, Array]:
    """The doubt of latencies, apart: what is each one's own, what predictions have together.

    A factor that all latencies are wrong by leaves them in their order, so of the shared parts
    only what differs between them is left.
    """
    sizes = np.array([abs(m.value) for m in found])
    share = np.array([m.record.get("shared", 0.0) if m.source == "predicted" else 0.0
                      for m in found])  # fmt: skip
    together = np.minimum(share * sizes, errors)
    return np.sqrt(errors**2 - together**2), (share - share.min()) * sizes


def known_rows(spec: StudySpec, trials: Sequence[Trial], deviation: float | None) -> list[Row]:
    """Complete and feasible trials with the measurement of every objective."""
    rows = []
    for trial in unique(trials):
        found = {o.name: measure(trial, o, spec, deviation) for o in spec.objectives}
        whole = {n: m for n, m in found.items() if m is not None}
        if len(whole) == len(found):
            rows.append((trial, whole))
    return rows


def shippable(rows: Sequence[Row]) -> list[Row]:
    """The rows whose latency is of the trained file, once there are any such.

    While a search is under way its front shows latencies of untrained forms, and says so; the
    front of a finished search takes only numbers of the files that ship.
    """
    final = [row for row in rows if _bases(row) == {"trained file"}]
    return final or list(rows)


def _keeps(trial: Trial, spec: StudySpec) -> bool:
    """Whether the file that ships keeps the constraints that name the device of the front."""
    limits = [c for c in spec.constraints if c.device == spec.device]
    excesses = [violation(trial, c, spec, ("trained", "untrained")) for c in limits]
    return all(e is None or e <= 0 for e in excesses)


def held(trial: Trial, spec: StudySpec) -> dict[str, Measurement]:
    """What of a trial is held against each constraint: the worst of its workloads' numbers.

    Where one is not known the limit is left out, unless another has broken it already.
    """
    found = {}
    for limit in spec.constraints:
        numbers = _held(trial, limit, spec)
        known = [n for n in numbers if n is not None]
        if known:
            worst = max(known, key=lambda n: limit.violation(n.value))
            if len(known) == len(numbers) or limit.violation(kindest(limit, worst)) > 0:
                found[str(limit)] = replace(worst, record={})
    return found


def _held(trial: Trial, limit: Constraint, spec: StudySpec) -> list[Measurement | None]:
    """The number that a limit is held against, one for each workload; None where not known."""
    if limit.name in TIMED:
        device = limit.device or spec.device
        timings = [timing_of(trial, device, workload=work.name) for work in limit.workloads]
        return [None if timing is None else number_of(limit, timing) for timing in timings]
    known = known_objectives(spec.task).get(limit.name) or next(
        (o for o in spec.objectives if o.name == limit.name), None
    )
    return [None if known is None else measure(trial, known, spec)]


def _bases(row: Row) -> set[str]:
    """How the row's measurements came about; without any, nothing waits to be measured."""
    timed = {m.basis for n, m in row[1].items() if n.partition("@")[0] in (*TIMED, *PROBED)}
    return timed - {"counted"} or {"trained file"}


def signed(objectives: Sequence[Objective], rows: Sequence[Mapping[str, Measurement]]) -> Array:
    """Values `(N, M)` with the sign that makes less better."""
    values = [[o.sign * row[o.name].value for o in objectives] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(objectives))


def reference_point(points: Array) -> Array:
    """The worst value of each objective, and a tenth of its range beyond."""
    if len(points) == 0:
        return np.zeros(points.shape[1])
    low, high = points.min(axis=0), points.max(axis=0)
    margin: Array = high + 0.1 * np.where(high > low, high - low, np.maximum(np.abs(high), 1e-9))
    return margin


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials are in each state."""
    found = Counter(trial.state for trial in trials)
    return {state: found[state] for state in STATES}
