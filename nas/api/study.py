"""Looking at what a search found: the front, one point of it, a trial, all studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.api.places import storage_url
from nas.core.errors import NasError
from nas.core.front import Front, front_of
from nas.core.objective import Constraint
from nas.core.trial import Trial
from nas.report import pick as picking
from nas.report.documents import study_document, trial_document
from nas.store.store import Store


def front(study: str, device: str | None = None, storage: str | None = None) -> Front:
    """The front of a study, from all that is recorded now.

    Raises:
        NasError: for an unknown study, or a device the study has no numbers for.
    """
    with Store(storage_url(storage), read_only=True) as store:
        spec = store.spec(study)
        if device not in (None, spec.device):
            raise NasError(
                f"study {study!r} has no numbers for device {device!r}",
                f"it was searched on {spec.device!r}: type --device {spec.device}",
            )
        return front_of(spec, store.trials(study))


def pick(
    study: str,
    constraints: Sequence[str] = (),
    prefer: str | None = None,
    confidence: float | None = None,
    storage: str | None = None,
) -> picking.Pick:
    """One point of a study's front, and why."""
    limits = [Constraint.parse(c) for c in constraints]
    return picking.pick(front(study, storage=storage), limits, prefer, confidence)


def show(study: str, trial: int | None = None, storage: str | None = None) -> dict[str, Any]:
    """A study, or one trial of it, with all that is recorded."""
    with Store(storage_url(storage), read_only=True) as store:
        spec = store.spec(study)
        trials = store.trials(study)
    if trial is None:
        return study_document(spec, trials)
    return trial_document(spec, trials, chosen(study, trials, trial).number)


def chosen(study: str, trials: Sequence[Trial], number: int) -> Trial:
    """The trial of that number. Raises: NasError where the study has none."""
    if not 0 <= number < len(trials):
        raise NasError(
            f"study {study!r} has no trial {number}",
            f"its trials are 0 .. {len(trials) - 1}" if trials else "it has no trials yet",
        )
    return trials[number]


def studies(storage: str | None = None) -> list[dict[str, Any]]:
    """Every study of a database, the newest last."""
    with Store(storage_url(storage), read_only=True) as store:
        return [row.to_json() for row in store.studies()]
