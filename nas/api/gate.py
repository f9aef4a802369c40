"""What becomes of a point whose file failed its gate: it is marked, and leaves the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core import ledger
from nas.core.errors import NasError
from nas.core.front import front_of
from nas.core.trial import Event, Trial
from nas.store.store import Store

if TYPE_CHECKING:
    from nas.deploy.parity import Parity


def recorded(url: str, study: str, trial: Trial, parity: Parity, about: str) -> None:
    """Marks a trial whose own file failed the gate, or takes such a mark away.

    Raises: NasError, after the mark is stored, where the file failed.
    """
    marked = any(name.startswith(ledger.GATE) for name in trial.violations)
    if parity.passed and not marked:
        return
    limit, excess = parity.excess
    reason = f"the exported file ({about}) differs from the trained network: {parity.said}"
    payload = {"job": "gate", "passed": parity.passed, "limit": limit, "excess": excess,
               "reason": reason, "parity": parity.to_json()}  # fmt: skip
    try:
        _commit(url, study, trial, Event("reported", trial.number, payload))
    except NasError as error:
        if parity.passed:
            raise
        raise NasError(f"trial {trial.number}: {reason}; it could not be marked: {error.problem}",
                       error.hint) from error  # fmt: skip
    if not parity.passed:
        raise NasError(
            f"trial {trial.number}: {reason}",
            f"it is marked, and has left the front; take another: nas front {study}",
        )


def _commit(url: str, study: str, trial: Trial, event: Event) -> None:
    with Store(url, make=False) as store:
        epoch = store.claim(study)
        try:
            after = ledger.reported(trial, event.payload)
            store.commit(study, epoch, [event], [after])
            store.save_front(study, epoch, front_of(store.spec(study), store.trials(study)))
        finally:
            store.release(study, epoch)
