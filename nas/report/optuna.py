"""A study as Optuna has it, made from ours to be looked at: for its dashboard and its plots."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from nas.core.front import Front, front_of
from nas.core.known import measure, seed_deviation
from nas.core.membership import verdict
from nas.core.study import StudySpec
from nas.core.trial import Event, Trial
from nas.report.numbers import interval
from nas.strategies.mirror import quiet

STATES = {
    "complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING,
}  # fmt: skip
_ARTIFACT = "artifacts:"  # how Optuna names what it knows of a trial's files
Span = tuple[datetime, datetime | None]


def optuna_study(
    spec: StudySpec,
    trials: Sequence[Trial],
    spans: Mapping[int, Span],
    storage: BaseStorage | None = None,
) -> optuna.Study:
    """The study with its choices as parameters and its best known numbers as values.

    What was stopped or broke a limit is PRUNED, with what it reached as intermediate values. A
    network that is complete but lacks a number (it was never timed) is PRUNED too: Optuna has no
    word for it. Attributes of a trial hold the intervals, the membership, what a limit says, errors
    and its file.

    Args:
        spec: of the study. trials: of the study.
        spans: trial -> when it began and ended.
        storage: where to; in memory by default.
    """
    front, deviation = front_of(spec, trials), seed_deviation(trials)
    kinds = _distributions(trials)
    with quiet():
        study = optuna.create_study(
            storage=storage or InMemoryStorage(),
            study_name=spec.name,
            directions=[o.goal for o in spec.objectives],
        )
        study.set_metric_names([o.name for o in spec.objectives])
        for name, value in _about(spec, front).items():
            study.set_user_attr(name, value)
        for trial in trials:
            study.add_trial(_trial(trial, spec, front, kinds, spans, deviation))
    return study


def spans(events: Sequence[Event], moments: Sequence[datetime]) -> dict[int, Span]:
    """When each trial was proposed, and when it was last told; None while it runs."""
    found: dict[int, Span] = {}
    for event, moment in zip(events, moments, strict=True):
        if event.kind == "proposed":
            found[event.trial] = (moment, None)
        elif event.kind == "resumed" and event.trial in found:
            found[event.trial] = (found[event.trial][0], None)
        elif event.kind == "told" and event.trial in found:
            found[event.trial] = (found[event.trial][0], moment)
    return found


class Refreshing(InMemoryStorage):
    """A storage in memory that is made anew whenever its study has changed.

    What a visitor changes there (notes, names) lasts until then: ours is the record.

    Args:
        version: names the state of the study, cheaply.
        make: puts the study into an empty storage.
    """

    def __init__(self, version: Callable[[], Any], make: Callable[[BaseStorage], Any]) -> None:
        super().__init__()
        self._version, self._make = version, make
        self._seen: Any = None
        self._turn = threading.Lock()
        self._refresh()

    def get_all_studies(self) -> Any:
        """The one study, as it is now."""
        self._refresh()
        return super().get_all_studies()

    def get_all_trials(self, *given: Any, **options: Any) -> list[FrozenTrial]:
        """The trials as they are now."""
        self._refresh()
        return super().get_all_trials(*given, **options)

    def _refresh(self) -> None:
        with self._turn:
            now = self._version()
            if now == self._seen:
                return
            fresh = InMemoryStorage()
            self._make(fresh)
            with self._lock:
                vars(self).update({k: v for k, v in vars(fresh).items() if k != "_lock"})
            self._seen = now


def _about(spec: StudySpec, front: Front) -> dict[str, Any]:
    return {
        "space": spec.space, "device": spec.device, "data": spec.task.source,
        "strategy": spec.strategy, "promotion": spec.promotion, "seed": spec.seed,
        "constraints": [str(c) for c in spec.constraints],
        "front": [m.trial for m in front.members], "hypervolume": front.hypervolume,
    }  # fmt: skip


def _distributions(trials: Sequence[Trial]) -> dict[str, BaseDistribution]:
    """Each decision by the values that occur; numbers stay numbers, and so in their order."""
    values: dict[str, dict[Any, None]] = {}
    for trial in trials:
        for name, value in trial.architecture.choices.items():
            values.setdefault(name, {})[value] = None
    return {name: _distribution(list(found)) for name, found in values.items()}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return IntDistribution(min(values), max(values))
    if kinds <= {int, float}:
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(sorted(values, key=str))


def _trial(
    trial: Trial,
    spec: StudySpec,
    front: Front,
    kinds: Mapping[str, BaseDistribution],
    spans: Mapping[int, Span],
    deviation: float | None,
) -> FrozenTrial:
    """One trial, whose number Optuna gives by its place."""
    known = {o.name: measure(trial, o, spec, deviation) for o in spec.objectives}
    numbers = {name: found for name, found in known.items() if found is not None}
    whole = len(numbers) == len(known) and trial.state == "complete"
    state = STATES[trial.state] if whole or trial.state != "complete" else TrialState.PRUNED
    start, end = spans.get(trial.number, (datetime.now(), None))
    member = next((m for m in front.members if m.trial == trial.number), None)
    attributes: dict[str, Any] = {name: interval(found) for name, found in numbers.items()}
    attributes |= {"state": trial.state, "proposed by": trial.origin, **trial.costs}
    if member is not None:
        attributes["on the front"] = f"{verdict(member.membership)}, {member.membership:.2f}"
    attributes |= {name: value for name, value in (("error", trial.error),
                                                   ("reused", trial.reused)) if value}  # fmt: skip
    made = optuna.trial.create_trial(
        state=state,
        values=[numbers[o.name].value for o in spec.objectives] if whole else None,
        params={n: _value(v, kinds[n]) for n, v in trial.architecture.choices.items()},
        distributions={n: kinds[n] for n in trial.architecture.choices},
        intermediate_values={r.epochs: r.score for r in trial.rungs if not r.repeat}
        if len(spec.objectives) == 1
        else {},
        user_attrs=attributes,
        system_attrs={**_limits(trial), **_file(trial)},
    )
    made.datetime_start = start.replace(tzinfo=None)
    made.datetime_complete = (end or start).replace(tzinfo=None) if state.is_finished() else None
    return made


def _value(value: Any, kind: BaseDistribution) -> Any:
    return float(value) if isinstance(kind, FloatDistribution) else value


def _limits(trial: Trial) -> dict[str, Any]:
    """What Optuna reads feasibility from: above 0 where a constraint is broken."""
    finite = [v for v in trial.violations.values() if math.isfinite(v)]
    return {"constraints": finite} if finite else {}


def _file(trial: Trial) -> dict[str, str]:
    """The trained file under the name that our artifacts keep it by."""
    if not trial.trained:
        return {}
    name = trial.trained[0].file
    suffix = name.rpartition(".")[2]
    told = {"artifact_id": name, "filename": f"trial-{trial.number}.{suffix}",
            "mimetype": "application/octet-stream", "encoding": None}  # fmt: skip
    return {_ARTIFACT + name: json.dumps(told)}
