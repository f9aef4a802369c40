"""The JSON documents of a study that scripts read, beside a front's own (`Front.to_json`)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from nas.core.front import Front, counts, front_of, held
from nas.core.known import measure, seed_deviation
from nas.core.measurement import Measurement
from nas.core.retarget import Retarget
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.report.gains import gains

Document = dict[str, Any]


def front_document(front: Front) -> Document:
    """`Front.to_json` without the timings' samples, which `nas show STUDY TRIAL --json` prints.

    Where a user brought a network, each member has its `gain` over it.
    """
    document = front.to_json()
    for row, member in zip(document["front"], front.members, strict=True):
        row["measurements"] = {n: brief(m) for n, m in member.measurements.items()}
        if front.untouched is not None:
            row["gain"] = gains(member.measurements, front.untouched.measurements)
    if front.untouched is not None:
        own = front.untouched.measurements
        document["untouched"]["measurements"] = {n: brief(m) for n, m in own.items()}
    return document


def retarget_document(found: Retarget) -> Document:
    """The document of the front on the new device, and under `retarget` what changed there."""
    return {**front_document(found.front), "retarget": found.to_json()}


def brief(measurement: Measurement) -> Document:
    """A measurement without the samples of its sessions."""
    document = measurement.to_json()
    return {**document, "record": {n: v for n, v in document["record"].items() if n != "sessions"}}


def study_document(spec: StudySpec, trials: Sequence[Trial]) -> Document:
    """A whole study: what was asked, how many trials ended how, and each trial in one row.

    `rows` hold `trial`, `key`, `origin`, `state`, `choices`, `measurements` (the best known number
    of each objective, where there is one), `limits` (what is held against each constraint, where
    that is known), `violations`, `epochs`, `reused`, `error`.
    """
    deviation = seed_deviation(trials)
    return {
        "study": spec.name,
        "space": spec.space,
        "task": spec.task.to_json(),
        "device": spec.device,
        "objectives": [{"name": o.name, "unit": o.unit, "goal": o.goal} for o in spec.objectives],
        "constraints": [str(c) for c in spec.constraints],
        "strategy": spec.strategy,
        "promotion": spec.promotion,
        "budget": {"trials": spec.trials, "hours": spec.hours, "epochs": spec.fidelity.epochs},
        "seed": spec.seed,
        "network": spec.network,
        "trials": counts(trials),
        "front": [m.trial for m in front_of(spec, trials).members],
        "rows": _rows(spec, trials, deviation),
    }


def _rows(spec: StudySpec, trials: Sequence[Trial], deviation: float | None) -> list[Document]:
    """A row for each trial; against the network that a user brought, where there is one."""
    rows = [_row(t, spec, deviation) for t in trials]
    if spec.network and trials:
        before = _known(trials[0], spec, deviation)
        for row, trial in zip(rows[1:], trials[1:], strict=True):
            row["gain"] = gains(_known(trial, spec, deviation), before)
    return rows


def _known(trial: Trial, spec: StudySpec, deviation: float | None) -> dict[str, Measurement]:
    """The numbers of a trial that there are."""
    found = {o.name: measure(trial, o, spec, deviation) for o in spec.objectives}
    return {n: m for n, m in found.items() if m is not None}


def trial_document(spec: StudySpec, trials: Sequence[Trial], number: int) -> Document:
    """One trial of a study with everything recorded about it: choices, costs, rungs, timings."""
    trial = next(t for t in trials if t.number == number)
    return {
        "study": spec.name,
        "space": spec.space,
        "device": spec.device,
        **_rows(spec, trials, seed_deviation(trials))[trials.index(trial)],
        "build": trial.build,
        "file": trial.file,
        "costs": dict(trial.costs),
        "uncounted_ops": list(trial.uncounted),
        "timings": {n: m.to_json() for n, m in trial.measurements.items()},
        "rungs": [
            {"repeat": r.repeat, "epochs": r.epochs, "score": r.score, "n": r.n,
             "decision": r.decision, "reused": r.reused}
            for r in trial.rungs
        ],
        "trained": [
            {"repeat": t.repeat, "score": t.score, "confirm": t.confirm, "file": t.file}
            for t in trial.trained
        ],
        "attempts": trial.attempts,
    }  # fmt: skip


def dominated(front: Front, study: Mapping[str, Any]) -> list[tuple[int, dict[str, Measurement]]]:
    """Complete trials of a study document that have every objective and are not on the front."""
    members = {m.key for m in front.members}
    names = [o.name for o in front.objectives]
    found = []
    for row in study["rows"]:
        known = row["measurements"]
        inside = row["state"] == "complete" and row["key"] not in members
        if inside and all(n in known for n in names):
            numbers = {n: Measurement.from_json(known[n]) for n in names}
            found.append((int(row["trial"]), numbers))
    return found


def front_csv(front: Front) -> str:
    """A front as comma-separated values: a row for each member, a column for each decision.

    `unlike` says why a member's numbers cannot be compared with the others', where they cannot.
    """
    decisions = sorted({name for m in front.members for name in m.choices})
    parts = ("", "_low", "_high", "_unit", "_source", "_basis")
    head = ["trial", "key", "membership"]
    head += [o.name + part for o in front.objectives for part in parts] + ["unlike"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head + decisions)
    for member in front.members:
        row: list[Any] = [member.trial, member.key, member.membership]
        for objective in front.objectives:
            m = member.measurements[objective.name]
            row += [m.value, m.low, m.high, m.unit, m.source, m.basis]
        row.append("; ".join(front.unlike.get(member.trial, ())))
        writer.writerow(row + [member.choices.get(name, "") for name in decisions])
    return text.getvalue()


def _row(trial: Trial, spec: StudySpec, deviation: float | None) -> Document:
    return {
        "trial": trial.number,
        "key": trial.key,
        "origin": trial.origin,
        "state": trial.state,
        "choices": dict(trial.architecture.choices),
        "measurements": {n: brief(m) for n, m in _known(trial, spec, deviation).items()},
        "limits": {text: m.to_json() for text, m in held(trial, spec).items()},
        "violations": dict(trial.violations),
        "epochs": max((r.epochs for r in trial.rungs), default=0),
        "reused": trial.reused,
        "error": trial.error,
    }
