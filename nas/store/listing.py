"""A study as a list of studies shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from nas.core.study import StudySpec
from nas.store.writer import Writer

STATES = ("complete", "stopped", "infeasible", "failed", "running")


@dataclass(frozen=True)
class StudyRow:
    """A study as a list of studies shows it.

    `trials` is the target, `counts` how many are in each state. `writer` is the process that
    claimed the study; whether it still runs is `writer.alive`.
    """

    name: str
    space: str
    device: str
    data: str
    objectives: tuple[str, ...]
    strategy: str
    trials: int
    counts: dict[str, int]
    created: datetime
    updated: datetime
    writer: Writer | None

    @property
    def running(self) -> bool | None:
        """Whether somebody writes it now; None where that is on another host."""
        return False if self.writer is None else self.writer.alive

    def to_json(self) -> dict[str, Any]:
        """The plain data that is printed."""
        return {
            **vars(self),
            "objectives": list(self.objectives),
            "created": self.created.isoformat(),
            "updated": self.updated.isoformat(),
            "writer": None if self.writer is None else str(self.writer),
            "running": self.running,
        }


def columns(spec: StudySpec) -> dict[str, Any]:
    """The columns of a study that say what it is."""
    return {
        "spec": spec.to_json(),
        "space": spec.space,
        "device": spec.device,
        "trials": spec.trials,
    }


def writer_of(row: RowMapping) -> Writer | None:
    """The process that claimed the study of a row."""
    if row["writer_host"] is None:
        return None
    return Writer(row["writer_host"], row["writer_process"], row["writer_started"])


def study_row(row: RowMapping, counts: dict[tuple[str, str], int]) -> StudyRow:
    """The study of a row; `counts` says how many trials each study has in each state."""
    spec = row["spec"]
    return StudyRow(
        name=row["name"],
        space=row["space"],
        device=row["device"],
        data=spec["task"]["source"],
        objectives=tuple(o["name"] for o in spec["objectives"]),
        strategy=spec["strategy"],
        trials=row["trials"],
        counts={state: counts.get((row["name"], state), 0) for state in STATES},
        created=row["created"],
        updated=row["updated"],
        writer=writer_of(row),
    )
