"""A history as an Optuna study in memory: the same trials, values and attributes, nothing else."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseGASampler, BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Decision, Integer
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace

Raw = dict[str, int | float]
_STUDY = "mirror"


def distribution(decision: Decision) -> BaseDistribution:
    """The values of a decision as Optuna knows them; those of a `Choice` by their index."""
    if isinstance(decision, Choice):
        return CategoricalDistribution(range(len(decision.values)))
    if isinstance(decision, Integer):
        return IntDistribution(decision.low, decision.high, step=decision.step)
    return FloatDistribution(decision.low, decision.high, log=decision.log)


def decode(space: SearchSpace, raw: Raw) -> Architecture:
    """The architecture of raw parameters: those without effect dropped, the rest within limits."""
    choices = {
        d.name: d.values[int(raw[d.name])] if isinstance(d, Choice) else raw[d.name]
        for d in space.listed
    }
    return space.repair(choices)


def encode(space: SearchSpace, architecture: Architecture) -> Raw:
    """Raw parameters near an architecture that came from elsewhere.

    A value that is never proposed becomes the nearest one that is, a decision without effect its
    first value.
    """
    raw: Raw = {}
    for decision in space.listed:
        value = decision.repair(architecture.choices.get(decision.name), {})
        at = decision.values.index(value) if isinstance(decision, Choice) else value
        raw[decision.name] = at if isinstance(at, float) else int(at)
    return raw


def recorded(space: SearchSpace, raw: Raw, architecture: Architecture) -> Raw:
    """The raw parameters that a result is of: those asked for, unless another architecture than
    theirs was recorded, as where a table has no row of it. What has no effect there stays.
    """
    if decode(space, raw) == architecture:
        return raw
    there = encode(space, architecture)
    return raw | {name: there[name] for name in raw if name in architecture.choices}


class Mirror:
    """An Optuna study in memory that follows a history, event by event.

    Every proposal of the space has one Optuna trial with all decisions as parameters. What was
    told of it becomes:

    - COMPLETE with its values, whether it ran to the end or was stopped at a rung (its values are
      those of the rung it reached: it was stopped because they were dominated);
    - COMPLETE with the worst value seen so far in place of each missing one where a constraint is
      broken, because samplers rank what is infeasible by its violations, not by its values;
    - FAIL where the trial failed, or has no full set of values and breaks nothing: samplers leave
      it out.

    A constraint that says nothing of a trial counts as just kept. The first result of a trial
    stays. All of it is a function of the events in their order.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
    ) -> None:
        self.space = space
        self.distributions = {d.name: distribution(d) for d in space.listed}
        self._objectives = tuple(objectives)
        self._constraints = tuple(str(c) for c in constraints)
        self._idle = RandomSampler(seed=0)
        self._storage = InMemoryStorage()
        self._study = _new_study(self._storage, objectives, self._idle)
        self._id = self._storage.get_study_id_from_name(_STUDY)
        self._trials: dict[int, int] = {}
        self._worst: dict[str, float] = {}

    def ask(self, sampler: BaseSampler) -> tuple[Raw, dict[str, Any]]:
        """A new running trial by a sampler: its raw parameters, and what it wrote beside them.

        The second is JSON: attributes of the trial and, where they are new, of the study.
        """
        before = self._storage.get_study_system_attrs(self._id)
        self._study.sampler = sampler
        try:
            with quiet():
                trial = self._study.ask(self.distributions)
        finally:
            self._study.sampler = self._idle
        after = self._storage.get_study_system_attrs(self._id)
        made = self._storage.get_trial(trial._trial_id)
        written = {
            "trial": made.system_attrs,
            "study": {k: v for k, v in after.items() if k not in before or before[k] != v},
        }
        plain: dict[str, Any] = json.loads(json.dumps(written))
        return dict(made.params), {k: v for k, v in plain.items() if v}

    def meet(self, number: int, raw: Raw) -> None:
        """The earliest trial asked for and not met yet is the study's trial `number`, at `raw`."""
        place = self._trials[number] = len(self._trials)
        asked = self._storage.get_trial(place).params
        for name in [n for n in raw if raw[n] != asked[n]]:
            kind = self.distributions[name]
            self._storage.set_trial_param(place, name, kind.to_internal_repr(raw[name]), kind)

    def add(self, number: int, raw: Raw, written: Mapping[str, Any]) -> None:
        """A running trial that was asked for in another life, as it was then."""
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params={name: raw[name] for name in self.distributions},
            distributions=self.distributions,
            system_attrs=dict(written.get("trial", {})),
        )
        self._study.add_trial(trial)
        for key, value in written.get("study", {}).items():
            self._storage.set_study_system_attr(self._id, key, value)
        self.meet(number, raw)

    def welcome(self, number: int, sampler: BaseSampler) -> None:
        """Lets a trial from elsewhere take part in a genetic sampler's current generation."""
        if isinstance(sampler, BaseGASampler):
            trial = self._storage.get_trial(self._trials[number])
            sampler.get_trial_generation(self._study, trial)

    def tell(self, number: int, result: Mapping[str, Any]) -> None:
        """What became of a trial: the payload of its `told` event. Unknown trials are ignored."""
        place = self._trials.get(number)
        if place is None or self._storage.get_trial(place).state != TrialState.RUNNING:
            return
        violations = {c: result.get("violations", {}).get(c, 0.0) for c in self._constraints}
        values = self._values(result, broken=any(v > 0 for v in violations.values()))
        if values is None:
            self._storage.set_trial_state_values(place, TrialState.FAIL)
            return
        trial = optuna.Trial(self._study, place)
        for name, excess in violations.items():
            trial.set_constraint(name, excess)
        self._storage.set_trial_state_values(place, TrialState.COMPLETE, values)

    def _values(self, result: Mapping[str, Any], broken: bool) -> list[float] | None:
        """A value for every objective, or None where there is nothing to learn."""
        if result["state"] == "failed":
            return None
        given = {n: v for n, v in result.get("values", {}).items() if math.isfinite(v)}
        full = all(o.name in given for o in self._objectives)
        for o in self._objectives:
            if o.name in given:
                worst = self._worst.setdefault(o.name, given[o.name])
                self._worst[o.name] = max(worst, given[o.name], key=lambda v: o.sign * v)
        if not full and not broken:
            return None
        return [given.get(o.name, self._worst.get(o.name, 0.0)) for o in self._objectives]


def _new_study(
    storage: InMemoryStorage, objectives: Sequence[Objective], sampler: BaseSampler
) -> optuna.Study:
    with quiet():
        return optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            sampler=sampler,
            directions=[o.goal for o in objectives],
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its log lines and its notes on what is experimental.

    Where all results agree a Gaussian process divides by nothing, and deals with it: no warning
    of that either.
    """
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
