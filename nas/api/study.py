"""Looking at what a search found: the front, one point of it, a trial, all studies."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nas.api.places import storage_url
from nas.core.errors import NasError
from nas.core.finished import finished, on_test_images
from nas.core.front import Front, Member, front_of, moved
from nas.core.known import measure
from nas.core.limits import timing_of
from nas.core.measurement import Measurement
from nas.core.objective import PROBED, TIMED, Constraint, Objective, known_objectives
from nas.core.study import StudySpec
from nas.core.trial import Trial, devices_of, placed, reports_of
from nas.hardware.protocol import Seen
from nas.hardware.ssh import canonical
from nas.report import pick as picking
from nas.report.documents import study_document, trial_document
from nas.store.store import Store


def front(study: str, device: str | None = None, storage: str | None = None) -> Front:
    """The front of a study, from all that is recorded now.

    Raises:
        NasError: for an unknown study, or a device the study has no numbers for.
    """
    with Store(storage_url(storage), read_only=True) as store, _uncollected():
        spec = store.spec(study)
        if device is None or canonical(device) == spec.device:
            near, tally = store.trials(study, contenders=True), store.counts(study)
            first = next(iter(store.trials(study, number=0)), None)
            return compared(front_of(spec, near, tally=tally, first=first), near)
        trials = store.trials(study)
    return compared(front_of(spec, trials, _with_numbers(spec, trials, device)), trials)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's collector waits: it would walk thousands of new objects that all stay, and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def compared(front: Front, trials: Sequence[Trial]) -> Front:
    """The front with what forbids comparing what was measured, as after a move to another host.

    Of the `trials` that are not on it those count as well: one that looks beaten may belong.
    """
    on = {member.trial for member in front.members}
    beaten = [
        (t.number, HERE, timing)
        for t in trials
        if t.state == "complete" and t.number not in on
        for timing in _found(t, front)
    ]
    unlike = _unlike([*_taken(front.members), *beaten])
    return replace(
        front,
        unlike={number: why for number, why in unlike.items() if number in on},
        elsewhere={number: why for number, why in unlike.items() if number not in on},
    )


def _found(trial: Trial, front: Front) -> list[Measurement]:
    """What of the front's objectives was measured of a trial on its device."""
    names = {o.name for o in front.objectives}
    timed = timing_of(trial, front.device) if names & {*TIMED} else None
    probed = [timing_of(trial, front.device, objective=n) for n in PROBED if n in names]
    return [m for m in (timed, *probed) if m is not None]


# What a number is of: a device, the front's own where it is None, and a workload.
Place = tuple[str | None, str]
HERE: Place = (None, "b1")


def _taken(members: Sequence[Member]) -> list[tuple[int, Place, Measurement]]:
    """What was taken of each on all devices, under all workloads that it has numbers for."""
    return [
        (member.trial, placed(name)[1:], found)
        for member in members
        for name, found in member.measurements.items()
        if placed(name)[0] in (*TIMED, *PROBED)
    ]


def _unlike(taken: Sequence[tuple[int, Place, Measurement]]) -> dict[int, list[str]]:
    """By trial, what forbids comparing a number with those before it that agree with the first.

    Numbers of one place and source are compared. Each with all: two may be as far apart as no one
    is from the first, which may also say less than the others do.
    """
    unlike: dict[int, list[str]] = {}
    alike: dict[tuple[str, Place, str], Seen] = {}
    for number, place, found in taken:
        # Profiles of one processor share timings; what is of one place is of one device.
        seen = Seen.of({**found.record, "device": place[0]})
        # A throughput is a latency's; a probe's record says other things than a timing's.
        kind = found.objective if found.objective in PROBED else "latency_ms"
        before = alike.setdefault((kind, place, found.source), seen)
        reasons = before.against(seen)
        if reasons:
            unlike.setdefault(number, []).extend(reasons)
        else:
            before.join(seen)
    return {number: list(dict.fromkeys(reasons)) for number, reasons in unlike.items()}


def pick(
    study: str,
    constraints: Sequence[str] = (),
    prefer: str | None = None,
    confidence: float | None = None,
    device: str | None = None,
    storage: str | None = None,
) -> picking.Pick:
    """One point of a study's front on a device, the study's own by default, and why.

    What a constraint speaks of and the study was not searched for (`size_mb<=4`, another device's
    latency, `latency_ms:b1-8<=12`) is one more objective, so that no point is missed that only that
    limit calls for.

    Raises:
        NasError: for an unknown name, or a device or workload that nothing was timed under; where
            no point keeps the constraints, by how much the nearest one fails.
    """
    spec, trials = _read(study, storage)
    device = _with_numbers(spec, trials, device)
    limits = [Constraint.parse(c) for c in constraints]
    plain = front_of(spec, trials, device)
    own = [o.name for o in spec.objectives]
    more: dict[str, Objective] = {}
    for limit in limits:
        more |= {o.name: o for o in _asked(spec, trials, limit, device) if o.name not in own}
    spec = replace(spec, objectives=(*spec.objectives, *more.values()))
    found = picking.pick(front_of(spec, trials, device), limits, prefer, confidence)
    there = moved(spec, trials, device)
    known = {t.number for t in trials if all(measure(t, o, there) for o in more.values())}
    unknown = tuple(m.trial for m in plain.members if m.trial not in known)
    unlike = _unlike(_taken((found.member, *found.alternatives)))
    return replace(found, unknown=unknown, unlike=unlike)


def _asked(
    spec: StudySpec, trials: Sequence[Trial], limit: Constraint, device: str
) -> list[Objective]:
    """The objectives that a limit speaks of, beside the front's own names.

    Raises: NasError where none of the trials has such a number.
    """
    base = known_objectives(spec.task).get(limit.name)
    if base is None:
        return []
    if limit.name not in TIMED:
        known = any(limit.name in t.costs for t in trials) or base.needs in ("trained", "measure")
        return [base] if known else []
    there = canonical(limit.device) if limit.device else device
    _with_numbers(spec, trials, there)
    found = []
    for work in limit.workloads:
        if work.name == "b1":
            found.append(replace(base, name=f"{limit.name}@{there}") if there != device else base)
            continue
        found.append(replace(base, name=f"{limit.name}@{there}:{work.name}"))
        if not any(timing_of(t, there, workload=work.name) for t in trials):
            raise NasError(
                f"nothing of {spec.name!r} was timed under {work.name} on {there}, as {limit} asks",
                f"nas retarget {spec.name} --device {there} --workload {limit.workload}",
            )
    return found


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
        events = store.events(study)
    done = finished(events).get(found.number)
    test = None if done is None else on_test_images(done.test, spec)
    return {
        **trial_document(spec, trials, found.number),
        "transforms": reports_of(events, found.key),
        "finished": done and {**done.to_json(), "test": test and test.to_json()},
    }


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


def studies(storage: str | None = None, create: bool = False) -> list[dict[str, Any]]:
    """Every study of a database, the newest last.

    Args:
        create: make the database or its tables where there are none, and bring older ones up to
            date: what the owner of a shared one does before others search in it.
    """
    with Store(storage_url(storage), read_only=not create) as store:
        return [row.to_json() for row in store.studies()]
