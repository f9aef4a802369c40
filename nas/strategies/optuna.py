"""Any Optuna sampler as a strategy: the study lives in memory and is rebuilt from the history.

Optuna's samplers: Akiba et al. 2019 (Optuna); NSGA-II: Deb et al. 2002; NSGA-III: Deb and Jain
2014; TPE: Bergstra et al. 2011 and Ozaki et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from nas.core.architecture import Architecture
from nas.core.errors import NasError, unknown
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.strategies.mirror import Mirror, decode, encode, quiet, recorded
from nas.strategies.protocol import proposal_seed

SHORT = {
    "random": "RandomSampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "qmc": "QMCSampler",
}
# What needs more than a seed, keeps its state as a pickle (no column may hold one), or cannot
# search every space (a `Real` has no grid).
_LEFT_OUT = {
    "BaseSampler",
    "BaseGASampler",
    "BruteForceSampler",
    "CmaEsSampler",
    "GridSampler",
    "PartialFixedSampler",
}


def samplers() -> list[str]:
    """The names of Optuna's samplers that can be a strategy."""
    listed = [n for n in optuna.samplers.__all__ if n.endswith("Sampler")]
    return sorted(n for n in listed if n not in _LEFT_OUT)


class OptunaStrategy:
    """Proposals by an Optuna sampler, by its own name or the short one.

    All decisions of the space, conditional ones too, are one flat set of parameters: the sampler's
    genotype. The architecture is made from them by `SearchSpace.repair`. The notes of a proposal
    hold the parameters and whatever the sampler wrote into the study while it was asked (the
    generation of a genetic sampler, its parents), so the study can be rebuilt from the history. A
    fresh sampler with its own seed answers for each proposal, so it can remember nothing else.
    Where another architecture than the proposed one is recorded, its result is learnt from as of
    that one.

    Proposals from elsewhere (presets, a user's) are learnt from where they are of this space.

    Raises:
        NasError: for a sampler that does not exist or cannot be rebuilt from a history.
    """

    def __init__(
        self,
        sampler: str,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        seed: int,
    ) -> None:
        sampler = SHORT.get(sampler, sampler)
        if sampler in _LEFT_OUT:
            raise NasError(
                f"Optuna's {sampler} cannot be a strategy here",
                f"use one that needs nothing but a seed: {', '.join(samplers())}",
            )
        if sampler not in samplers():
            raise unknown("Optuna sampler", sampler, [*samplers(), *SHORT])
        self._name = sampler
        self._space = space
        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._seed = seed
        self._start()

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals; each sees those before it as running."""
        if not self._follow(history):
            self._start()
            self._follow(history)
        proposals = []
        for number in range(len(history.proposals), len(history.proposals) + count):
            raw, written = self._mirror.ask(self._whole(self._sampler(number)))
            notes = {"params": raw, **written}
            self._asked.append(notes)
            proposals.append(Proposal(decode(self._space, raw), notes))
        return proposals

    def _start(self) -> None:
        self._mirror = Mirror(self._space, self._objectives, self._constraints)
        self._asked: list[dict[str, Any]] = []
        self._read = 0
        self._last: Event | None = None

    def _follow(self, history: History) -> bool:
        """Reads what is new; False where the history is not the one this instance lived through.

        That is so when its past differs, or when something that was proposed is not in it.
        """
        if self._last is not None and (
            self._read > len(history) or history.events[self._read - 1] != self._last
        ):
            return False
        for event in history.events[self._read :]:
            if event.kind == "proposed" and not self._proposed(event):
                return False
            if event.kind == "told":
                self._mirror.tell(event.trial, event.payload)
            self._read += 1
            self._last = event
        return not self._asked

    def _proposed(self, event: Event) -> bool:
        notes = event.payload.get("notes") or {}
        architecture = Architecture.from_json(event.payload["architecture"])
        if self._asked:
            mine = self._asked.pop(0)
            raw = recorded(self._space, mine["params"], architecture)
            self._mirror.meet(event.trial, raw)
            return all(notes.get(k) == v for k, v in mine.items())
        if notes.get("params", {}).keys() == self._mirror.distributions.keys():
            raw = recorded(self._space, dict(notes["params"]), architecture)
            self._mirror.add(event.trial, raw, notes)
            return True
        if architecture.space == self._space.name and not self._space.check(architecture.choices):
            self._mirror.add(event.trial, encode(self._space, architecture), {})
            self._mirror.welcome(event.trial, self._sampler(event.trial))
        return True

    def _sampler(self, number: int) -> BaseSampler:
        """A fresh sampler for one proposal."""
        entropy = np.random.SeedSequence(proposal_seed(self._seed, number))
        seed = int(entropy.generate_state(1)[0])
        given: dict[str, Any] = {"seed": seed}
        if self._name == "QMCSampler":
            # One low-discrepancy sequence for the whole study; the place in it is in the notes.
            given = {
                "seed": self._seed & 0xFFFFFFFF,
                "scramble": True,
                "independent_sampler": RandomSampler(seed=seed),
                "warn_independent_sampling": False,
            }
        elif self._name == "GPSampler":
            given["warn_independent_sampling"] = False
        with quiet():
            made: BaseSampler = getattr(optuna.samplers, self._name)(**given)
        return made

    def _whole(self, sampler: BaseSampler) -> BaseSampler:
        if isinstance(sampler, BaseGASampler):
            return _Whole(sampler, self._mirror.distributions)
        return sampler


class _Whole(BaseSampler):
    """A genetic sampler that is told its space.

    It would intersect the distributions of all trials at each step, which are all the same here:
    ten times the cost of everything else it does.
    """

    def __init__(self, inner: BaseSampler, space: dict[str, BaseDistribution]) -> None:
        self._inner = inner
        self._space = {n: d for n, d in sorted(space.items()) if not d.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that has a choice."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the sampler proposes for all parameters together."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """What it proposes for one parameter alone."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)
