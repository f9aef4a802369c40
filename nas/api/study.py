"""Looking at what a search found: the front, one point of it, a trial, all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.api.places import storage_url
from nas.core.errors import NasError
from nas.core.front import Front, front_of
from nas.core.objective import BUILTIN, TIMED, Constraint
from nas.core.study import StudySpec
from nas.core.trial import Trial, devices_of, reports_of
from nas.hardware.protocol import differences
from nas.hardware.ssh import canonical
from nas.report import pick as picking
from nas.report.documents import study_document, trial_document
from nas.store.store import Store


def front(study: str, device: str | None = None, storage: str | None = None) -> Front:
    """The front of a study, from all that is recorded now.

    Raises:
        NasError: for an unknown study, or a device the study has no numbers for.
    """
    spec, trials = _read(study, storage)
    device = _with_numbers(spec, trials, device)
    return compared(front_of(spec, trials, device))


def compared(front: Front) -> Front:
    """The front with what forbids comparing its latencies, as after a move to another host."""
    unlike: dict[int, list[str]] = {}
    first: dict[str, Mapping[str, Any]] = {}
    for member in front.members:
        for name, found in member.measurements.items():
            if name in TIMED:
                # Profiles of one processor share timings; a front is of one device by its making.
                record = {**found.record, "device": front.device}
                reasons = differences(first.setdefault(found.source, record), record)
                unlike |= {member.trial: reasons} if reasons else {}
    return replace(front, unlike=unlike)


def pick(
    study: str,
    constraints: Sequence[str] = (),
    prefer: str | None = None,
    confidence: float | None = None,
    device: str | None = None,
    storage: str | None = None,
) -> picking.Pick:
    """One point of a study's front on a device, the study's own by default, and why.

    A constraint on another device (`latency_ms@a100<=2`) makes its number one more objective, so
    that no point is missed that only that limit calls for.
    """
    spec, trials = _read(study, storage)
    device = _with_numbers(spec, trials, device)
    limits = [Constraint.parse(c) for c in constraints]
    others = {}
    for limit in limits:
        if limit.device not in (None, device) and limit.name in TIMED:
            _with_numbers(spec, trials, limit.device)
            name = f"{limit.name}@{limit.device}"
            others[name] = replace(BUILTIN[limit.name], name=name)
    spec = replace(spec, objectives=(*spec.objectives, *others.values()))
    return picking.pick(front_of(spec, trials, device), limits, prefer, confidence)


def show(
    study: str,
    trial: int | None = None,
    device: str | None = None,
    storage: str | None = None,
) -> dict[str, Any]:
    """A study, or one trial of it, with all that is recorded; its numbers on a device."""
    spec, trials = _read(study, storage)
    spec = replace(spec, device=_with_numbers(spec, trials, device))
    if trial is None:
        return study_document(spec, trials)
    found = chosen(study, trials, trial)
    with Store(storage_url(storage), read_only=True) as store:
        reports = reports_of(store.events(study), found.key)
    return {**trial_document(spec, trials, found.number), "transforms": reports}


def _read(study: str, storage: str | None) -> tuple[StudySpec, list[Trial]]:
    with Store(storage_url(storage), read_only=True) as store:
        return store.spec(study), store.trials(study)


def _with_numbers(spec: StudySpec, trials: Sequence[Trial], device: str | None) -> str:
    """The device, the study's own by default. Raises: NasError without latencies of it."""
    device = canonical(device) if device else spec.device
    known = {spec.device, *devices_of(trials)}
    if device not in known:
        raise NasError(
            f"study {spec.name!r} has no numbers for device {device!r}, "
            f"only for {', '.join(sorted(known))}",
            f"nas retarget {spec.name} --device {device}",
        )
    return device


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
