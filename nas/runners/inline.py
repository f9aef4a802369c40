"""The plainest runner: every job in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nas.core.job import Done, Finish, Job, Outcome, Train, Wait, job_to_json
from nas.session import Session

Report = Callable[[int, Mapping[str, Any]], str]
Perform = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]


class Runner(Protocol):
    """Asks a session for jobs until it is done."""

    def run(self, session: Session) -> Done:
        """Runs to the end; an interrupt may be raised at any moment and loses only what runs."""
        ...


class Inline:
    """Does each job where it stands; with one training thread two runs are identical.

    Args:
        perform: does a job, JSON in, JSON out (`nas.evaluate.perform` with its place).
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform

    def run(self, session: Session) -> Done:
        """Runs to the end."""
        while True:
            job = session.ask()
            if isinstance(job, Done):
                return job
            if isinstance(job, Wait):
                raise RuntimeError("an inline search waits for nobody")
            outcome = self._perform(job_to_json(job), _reporter(session, job))
            session.tell(job, Outcome.from_json(outcome))


def _reporter(session: Session, job: Job) -> Report:
    def report(rung: int, values: Mapping[str, Any]) -> str:
        if not isinstance(job, Train | Finish):
            raise TypeError(f"only a training reports rungs, not {job.kind}")
        return session.report(job, rung, values)

    return report
