"""Trials, measurements and fronts as rows of the tables, and back; exact in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from nas.core.architecture import Architecture
from nas.core.front import Front, Member
from nas.core.measurement import Measurement
from nas.core.objective import Objective
from nas.core.trial import Event, Rung, Timing, Trained, Trial


def event_row(event: Event) -> dict[str, Any]:
    """The columns of an event."""
    return {"kind": event.kind, "trial": event.trial, "payload": dict(event.payload)}


def architecture_row(trial: Trial) -> dict[str, Any]:
    """The columns of a trial's architecture."""
    return {"key": trial.key, **trial.architecture.to_json()}


def trial_row(trial: Trial, key: str) -> dict[str, Any]:
    """The columns of a trial whose architecture has this key."""
    return {
        **vars(trial),
        "architecture": key,
        "notes": dict(trial.notes),
        "costs": dict(trial.costs),
        "proxies": dict(trial.proxies),
        "measurements": {name: m.to_json() for name, m in trial.measurements.items()},
        "rungs": [vars(rung) for rung in trial.rungs],
        "trained": [vars(trained) for trained in trial.trained],
        "values": dict(trial.values),
        "violations": dict(trial.violations),
        "error": None if trial.error is None else _storable(trial.error),
    }


SAME = ("number", "origin", "notes", "state", "build", "file", "costs", "proxies", "values",
        "violations", "attempts", "error", "reused")  # fmt: skip
MADE = ("uncounted", "measurements", "rungs", "trained")
# What a front needs of its contenders
STANDING = ("number", "state", "costs", "values", "violations", "measurements", "trained")


def trial_of(row: Mapping[str, Any]) -> Trial:
    """The trial of a row with the columns `SAME` and `MADE`, joined with its architecture.

    It has nothing of the columns that are not there; `STANDING` must be.
    """
    return Trial(
        **{name: row[name] for name in SAME if name in row},
        architecture=Architecture.keyed(row["space"], row["choices"], row["key"]),
        uncounted=tuple(row.get("uncounted", ())),
        measurements={n: Measurement.from_json(m) for n, m in row["measurements"].items()},
        rungs=tuple(Rung(**rung) for rung in row.get("rungs", ())),
        trained=tuple(Trained(**trained) for trained in row["trained"]),
    )


def timing_row(timing: Timing) -> dict[str, Any]:
    """The columns of a timing: those of its measurement beside what names it."""
    return {k: v for k, v in vars(timing).items() if k != "measurement"} | (
        timing.measurement.to_json()
    )


def timing_of(row: RowMapping) -> Timing:
    """The timing of a row of `measurement`."""
    measured = {name: row[name] for name in Measurement.__dataclass_fields__}
    named = {name: row[name] for name in Timing.__dataclass_fields__ if name != "measurement"}
    return Timing(**named, measurement=Measurement(**measured))


def front_row(front: Front) -> dict[str, Any]:
    """The columns of a front, its members apart."""
    return {
        "study": front.study,
        "device": front.device,
        "space": front.space,
        "objectives": [o.to_json() for o in front.objectives],
        "trials": dict(front.trials),
        "hypervolume": front.hypervolume,
        "reference": list(front.reference),
    }


def member_rows(front: Front) -> list[dict[str, Any]]:
    """The columns of each member of a front; its choices are those of its trial."""
    return [
        {
            "study": front.study,
            "device": front.device,
            "position": position,
            "trial": member.trial,
            "membership": member.membership,
            "measurements": {name: m.to_json() for name, m in member.measurements.items()},
        }
        for position, member in enumerate(front.members)
    ]


def front_of_rows(row: RowMapping, members: Sequence[RowMapping]) -> Front:
    """The front of its row and of its members' rows, joined with their architectures."""
    return Front(
        study=row["study"],
        space=row["space"],
        device=row["device"],
        objectives=tuple(Objective.from_json(o) for o in row["objectives"]),
        members=tuple(
            Member(
                trial=member["trial"],
                key=member["key"],
                choices=member["choices"],
                membership=member["membership"],
                measurements={
                    n: Measurement.from_json(m) for n, m in member["measurements"].items()
                },
            )
            for member in members
        ),
        trials=row["trials"],
        hypervolume=row["hypervolume"],
        reference=tuple(row["reference"]),
    )


def _storable(text: str) -> str:
    """The text with what no database can hold written out: lone surrogates of odd file names, NUL.

    >>> _storable("no image: caf\\udce9.png")
    'no image: caf\\\\udce9.png'
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
