"""What a new study takes from earlier ones of the same database: first points, and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.api.sources import alike
from nas.core.errors import NasError
from nas.core.front import front_of
from nas.core.job import Workload
from nas.core.known import values_of, violations_of
from nas.core.measurement import Measurement
from nas.core.space import SearchSpace
from nas.core.study import Start, StudySpec
from nas.core.trial import Event, Trial, measurement_name
from nas.session import Bench
from nas.store.store import Store

MOST = 500  # results of earlier studies; the surrogate's time grows with them
LEARNS = ("surrogate",)  # strategies that look at results of other studies


def first_points(
    store: Store, spec: StudySpec, space: SearchSpace, studies: Sequence[str]
) -> tuple[Start, ...]:
    """The fronts of other studies as the first points of a new one, the surest members first.

    At most half of the new study's trials, so that something is searched. A choice that the present
    space lacks becomes the nearest that it has, and the origin says so. The studies may have been
    of another task or device: what is taken is architectures alone.

    Raises: NasError for an unknown study, one of another space or network, or one without a front.
    """
    found = []
    for name in dict.fromkeys(studies):
        other = store.spec(name)
        _same_space(name, other, spec)
        members = front_of(other, store.trials(name)).members
        if not members:
            raise NasError(
                f"study {name!r} has no point on its front to start from",
                f"let it go on: nas search --study {name} --resume; or leave --from {name} out",
            )
        found += [(-m.membership, name, m.trial, m.choices) for m in members]
    points: dict[str, Start] = {}
    for _, name, trial, choices in sorted(found, key=lambda f: f[:3]):
        point = space.repair(choices, plainly=True)
        mended = "" if dict(point.choices) == dict(choices) else ", repaired"
        points.setdefault(point.key, Start(point.choices, f"from {name} trial {trial}{mended}"))
    return tuple(points.values())[: max(1, spec.trials // 2)]


def _same_space(name: str, other: StudySpec, spec: StudySpec) -> None:
    """Raises NasError where the networks of one study cannot be networks of the other.

    Axes may differ (`largekernel+bitwidth` after `largekernel`): what one lacks is repaired.
    """
    if other.network != spec.network:
        raise NasError(
            f"study {name!r} is of {other.network or 'no network of your own'}, "
            f"not of {spec.network or 'the space alone'}",
            f"type --network {other.network}" if other.network else f"leave --from {name} out",
        )
    if other.space.partition("+")[0] != spec.space.partition("+")[0]:
        raise NasError(
            f"study {name!r} searched the space {other.space!r}, not {spec.space!r}",
            f"type --space {other.space}, or leave --from {name} out",
        )


def earlier_results(
    store: Store, spec: StudySpec, space: SearchSpace, benches: Mapping[str, Bench]
) -> list[Event]:
    """Results of other studies as events that a strategy may learn from, the newest study first.

    Of studies with the same space, network, data and training, of the same files. A latency counts
    where it was timed on the same host, runtime and protocol; `benches` are those of this study's
    devices. None for a study that is to reuse nothing (`fresh`), or whose strategy would not look
    at them. The events become the first of the new study, so that it can be decided again from its
    own record.
    """
    if spec.fresh or spec.strategy not in LEARNS:
        return []
    events: list[Event] = []
    seen: set[str] = set()
    for row in store.studies():
        if row.name == spec.name or row.space != spec.space:
            continue
        if not _same_results(store.spec(row.name), spec):
            continue
        for trial in _results(store.trials(row.name), space, seen):
            measured = dict(_measured(store, spec, trial, benches))
            payload = _payload(row.name, spec, replace(trial, measurements=measured))
            if payload["values"]:
                events.append(Event("known", -1 - len(events), payload))
            if len(events) == MOST:
                return events
    return events


def _same_results(other: StudySpec, spec: StudySpec) -> bool:
    """Whether the same network would bring the same in both studies."""
    mine, theirs = (
        (s.network, s.weights, s.task.digest, s.task.input, s.task.outputs, s.recipe_digest)
        for s in (spec, other)
    )
    return mine == theirs and alike(spec, other)


def _results(trials: Sequence[Trial], space: SearchSpace, seen: set[str]) -> Iterator[Trial]:
    """Trials with a result of their own, of networks that the space has, each network once."""
    for trial in trials:
        if trial.state not in ("complete", "stopped", "infeasible") or trial.reused:
            continue
        if trial.key not in seen and not space.check(trial.architecture.choices):
            seen.add(trial.key)
            yield trial


def _measured(
    store: Store, spec: StudySpec, trial: Trial, benches: Mapping[str, Bench]
) -> Iterator[tuple[str, Measurement]]:
    """What was measured of another study's trial as this study would, by measurement name.

    Where a device is not here, what was predicted of it.
    """
    asked = [("latency_ms", device, work) for device, work in spec.timings]
    asked += [(probe, spec.device, Workload()) for probe in spec.probes]
    for objective, device, work in asked:
        name = measurement_name(objective, device, work.name, "untrained")
        bench = benches.get(device)
        if bench is None:
            found = trial.measurements.get(name)
            if found is not None and found.source == "predicted":
                yield name, found
        elif work.resolution is None:  # a build names the graph at the task's own side
            timing = store.timing(
                trial.build or "", "untrained", work.name, bench.host, bench.runtime,
                bench.filed(objective),
            )  # fmt: skip
            if timing is not None:
                yield name, timing.measurement


def _payload(study: str, spec: StudySpec, trial: Trial) -> dict[str, Any]:
    """The event's payload: where a result is from, and the result as this study would tell it."""
    at_the_end = replace(trial, rungs=())  # a rung's score is no result
    return {
        "architecture": trial.architecture.to_json(),
        "study": study,
        "trial": trial.number,
        "state": trial.state,
        "values": values_of(spec, at_the_end),
        "violations": violations_of(spec, at_the_end),
        "rungs": [[r.epochs, r.score] for r in trial.rungs if not r.repeat],
        "costs": dict(trial.costs),
    }
