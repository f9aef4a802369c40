"""What a hard limit says of a trial: the number that is held against it, and how far it is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas.core.measurement import Measurement
from nas.core.objective import TIMED, Constraint
from nas.core.study import StudySpec
from nas.core.trial import Trial, measurement_name


def timing_of(
    trial: Trial,
    device: str,
    forms: Sequence[str] = ("trained", "untrained"),
    objective: str = "latency_ms",
    workload: str = "b1",
) -> Measurement | None:
    """The latency of a trial on a device, of the first of these forms that was timed; or None.

    Likewise what else is measured there, by the name of the `objective`.
    """
    names = (measurement_name(objective, device, workload, form) for form in forms)
    return next((trial.measurements[n] for n in names if n in trial.measurements), None)


def limited(limit: Constraint, timing: Measurement) -> float:
    """The number of a timing that a limit on latency or throughput is of, such as its p99."""
    value = float(timing.record.get(f"{limit.quantile}_ms", timing.value))
    return value if limit.name == "latency_ms" else rate(timing, value)


def number_of(limit: Constraint, timing: Measurement) -> Measurement:
    """The number of a timing that a limit is of, with its interval where that is of this number."""
    value, *ends = (
        limited(limit, replace(timing, value=v)) for v in (timing.value, timing.low, timing.high)
    )
    return replace(
        timing,
        objective=limit.name,
        value=value,
        unit=timing.unit if limit.name == "latency_ms" else "images/s",
        low=min(value, *ends),
        high=max(value, *ends),
        se=timing.se * value / timing.value,
    )


def kindest(limit: Constraint, number: Measurement) -> float:
    """What of a number may break a limit: of a prediction only its whole interval does."""
    if number.source != "predicted":
        return number.value
    return number.low if limit.sense == "<=" else number.high


def violation(
    trial: Trial, limit: Constraint, spec: StudySpec, forms: Sequence[str] = ("untrained",)
) -> float | None:
    """Relative excess over a constraint on a cost or a latency, above 0 where it is broken.

    None where the value is not known. A prediction breaks a limit only with its whole interval.
    """
    if limit.name in spec.probes:
        probed = timing_of(trial, spec.device, forms, limit.name)
        return None if probed is None else limit.violation(probed.value)
    if limit.name not in TIMED:
        value = trial.costs.get(limit.name)
        return None if value is None else limit.violation(value)
    device = limit.device or spec.device
    found = [timing_of(trial, device, forms, workload=work.name) for work in limit.workloads]
    excesses = [_excess(limit, timing) for timing in found if timing is not None]
    broken = max(excesses, default=0.0)
    return broken if broken > 0 or (excesses and len(excesses) == len(found)) else None


def _excess(limit: Constraint, timing: Measurement) -> float:
    """By how much one timing breaks a limit on latency or throughput, relative to it."""
    return limit.violation(kindest(limit, number_of(limit, timing)))


def rate(timing: Measurement, latency_ms: float) -> float:
    """Examples a second where a call of this workload takes so long: all of a call and callers."""
    record = timing.record
    return 1000.0 * float(record.get("batch", 1) * record.get("streams", 1)) / latency_ms
