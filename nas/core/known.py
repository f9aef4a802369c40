"""What is known of a trial: its objectives, with intervals, and by how much it breaks limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from nas.core.limits import throughput, timing_of, violation
from nas.core.luck import squares
from nas.core.measurement import Z90, Measurement
from nas.core.objective import TIMED, Constraint, Objective
from nas.core.study import StudySpec
from nas.core.trial import Trial, placed


def measure(
    trial: Trial, objective: Objective, spec: StudySpec, deviation: float | None = None
) -> Measurement | None:
    """What is known of one objective of a trial, the trained file's number first; or None.

    `latency_ms` is of the study's device, `latency_ms@a100` of that one, `latency_ms@a100:b8` of
    eight examples in a call there.
    """
    name, device, workload = placed(objective.name)
    if name in TIMED:
        found = timing_of(trial, device or spec.device, workload=workload)
        return throughput(found) if found and name == "throughput_ips" else found
    if name in spec.probes:
        return timing_of(trial, spec.device, objective=name)
    if objective.name in (spec.task.score_name, "error") and objective.name not in trial.costs:
        if not trial.trained:
            return None
        score = score_measurement(trial, spec, deviation)
        return _error(score) if objective.name == "error" else score
    if objective.name in trial.costs:
        return Measurement.exact(objective.name, trial.costs[objective.name], objective.unit)
    return None


def score_measurement(trial: Trial, spec: StudySpec, deviation: float | None) -> Measurement:
    """The score of a trained trial on the images that the search never ranked on.

    The interval says where a repeat with a fresh seed on fresh images falls: the doubt of the
    value and the spread of one repeat, added in squares. Without repeats in the study the seed's
    part is unknown; the record says so.
    """
    runs = trial.trained
    value = fmean([t.confirm for t in runs])
    images = _image_error(trial)
    seeds = deviation or 0.0
    se = math.sqrt(images**2 + seeds**2 / len(runs))
    repeat = math.sqrt(se**2 + images**2 + seeds**2)
    low, high = value - Z90 * repeat, value + Z90 * repeat
    if spec.task.score_unit == "%":
        low, high = max(0.0, low), min(100.0, high)
    noise: Any = "not measured" if deviation is None else deviation
    record = {"seeds": len(runs), "images": runs[0].confirm_n, "seed_deviation": noise}
    name, unit = spec.task.score_name, spec.task.score_unit
    return Measurement(
        name, value, unit, low, high, se, runs[0].confirm_n, "measured", "trained file", record
    )


def seed_deviation(trials: Sequence[Trial]) -> float | None:
    """Standard deviation of the confirmed score between training seeds, pooled over repeats.

    The image noise that both repeats share is small beside it and stays inside. None where no
    trial was trained twice.
    """
    again = [[r.confirm for r in t.trained] for t in unique(trials) if len(t.trained) > 1]
    degrees = sum(len(scores) - 1 for scores in again)
    return math.sqrt(sum(map(squares, again)) / degrees) if degrees else None


def unique(trials: Sequence[Trial]) -> list[Trial]:
    """The complete, feasible trials, each network once (the first that proposed it)."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        if trial.state == "complete" and trial.feasible:
            seen.setdefault(trial.key, trial)
    return list(seen.values())


def _error(score: Measurement) -> Measurement:
    """100 - accuracy, with its interval turned round."""
    return Measurement(
        "error", 100 - score.value, "%", 100 - score.high, 100 - score.low,
        score.se, score.n, score.source, score.basis, score.record,
    )  # fmt: skip


def _image_error(trial: Trial) -> float:
    """Standard error of a score, of the images alone."""
    return fmean([t.confirm_se for t in trial.trained])


def values_of(spec: StudySpec, trial: Trial) -> dict[str, float]:
    """What is known of the objectives during a search, the score on the search's own images."""
    values: dict[str, float] = {}
    for objective in spec.objectives:
        found = measure(trial, objective, spec)
        if found is not None:
            values[objective.name] = found.value
    scores = [r.score for r in trial.rungs if r.repeat == 0]
    score = trial.trained[0].score if trial.trained else scores[-1] if scores else None
    return values | ({} if score is None else scored(spec, score))


def scored(spec: StudySpec, score: float) -> dict[str, float]:
    """The objectives that follow from a score."""
    named = {spec.task.score_name: score, "error": 100.0 - score}
    return {o.name: named[o.name] for o in spec.objectives if o.name in named}


def score_first(spec: StudySpec) -> list[Objective]:
    """The objectives as strategies take them: what needs training comes last, unless it follows
    from the score, which trainings report on their way.
    """
    reported = scored(spec, 0.0)
    return sorted(spec.objectives, key=lambda o: o.needs == "trained" and o.name not in reported)


def violations_of(spec: StudySpec, trial: Trial) -> dict[str, float]:
    """Relative excess over each constraint of which the value is known."""
    found = {str(limit): _excess(spec, trial, limit) for limit in spec.constraints}
    return {name: excess for name, excess in found.items() if excess is not None}


def _excess(spec: StudySpec, trial: Trial, limit: Constraint) -> float | None:
    task = spec.task
    if limit.name in (task.score_name, "error") and limit.name not in trial.costs:
        if not trial.trained:
            return None
        score = trial.trained[0].score
        return limit.violation(100.0 - score if limit.name == "error" else score)
    return violation(trial, limit, spec)
