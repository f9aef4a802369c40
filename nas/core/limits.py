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


def number_of(limit: Constraint, timing: Measurement) -> Measurement:
    """What of a timing a limit on latency or throughput is of; a quantile has no interval."""
    kept = timing.record.get(f"{limit.quantile}_ms")
    if kept is not None:
        value = float(kept)
        se = timing.se * value / timing.value
        timing = replace(timing, value=value, low=value, high=value, se=se)
    return timing if limit.name == "latency_ms" else throughput(timing)


def throughput(latency: Measurement) -> Measurement:
    """Examples a second, from a latency: of all of a call, and of all callers."""
    at_once = latency.record.get("batch", 1) * latency.record.get("streams", 1)
    value, low, high = (1000.0 * at_once / ms for ms in (latency.value, latency.high, latency.low))
    return replace(
        latency, objective="throughput_ips", value=value, unit="images/s", low=low, high=high,
        se=value * latency.se / latency.value,
    )  # fmt: skip


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
