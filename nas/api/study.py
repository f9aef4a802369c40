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
        found = front_of(spec, trials)
        return {**spec.to_json(), "study": study, "counts": dict(found.trials),
                "front": [m.trial for m in found.members]}  # fmt: skip
    return describe(study, chosen(study, trials, trial))


def chosen(study: str, trials: Sequence[Trial], number: int) -> Trial:
    """The trial of that number. Raises: NasError where the study has none."""
    if not 0 <= number < len(trials):
        raise NasError(
            f"study {study!r} has no trial {number}",
            f"its trials are 0 .. {len(trials) - 1}" if trials else "it has no trials yet",
        )
    return trials[number]


def describe(study: str, trial: Trial) -> dict[str, Any]:
    """Everything recorded of a trial, as plain data."""
    return {
        "study": study,
        "trial": trial.number,
        "key": trial.key,
        "build": trial.build,
        "state": trial.state,
        "origin": trial.origin,
        "error": trial.error,
        "reused": trial.reused,
        "choices": dict(trial.architecture.choices),
        "values": dict(trial.values),
        "violations": dict(trial.violations),
        "costs": dict(trial.costs),
        "uncounted": list(trial.uncounted),
        "rungs": [{"repeat": r.repeat, "epochs": r.epochs, "score": r.score, "n": r.n,
                   "decision": r.decision, "reused": r.reused} for r in trial.rungs],
        "trained": [{"repeat": t.repeat, "file": t.file, "score": t.score, "confirm": t.confirm}
                    for t in trial.trained],
        "measurements": {n: m.to_json() for n, m in trial.measurements.items()},
    }  # fmt: skip


def studies(storage: str | None = None) -> list[dict[str, Any]]:
    """Every study of a database, the newest last."""
    with Store(storage_url(storage), read_only=True) as store:
        return [row.to_json() for row in store.studies()]
