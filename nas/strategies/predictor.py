"""Predictor search: a genetic search of what predictors promise, one evaluation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.core.objective import Constraint, Objective
from nas.core.pareto import ranks
from nas.core.promotion import Standing, order
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.strategies.candidates import Genes
from nas.strategies.kernel import Embedding
from nas.strategies.observations import Data, Observations
from nas.strategies.protocol import proposal_seed
from nas.strategies.regression import Matern, Parameters, Posterior

Array = npt.NDArray[np.float64]

RIDGE = 0.01  # noise of the predictors, as a share of the variance
LATEST = 500  # results that predictors are made from
ENOUGH = 4  # results to make one


class PredictorSearch:
    """Search by predictors, in the manner of LINAS (Cummings et al. 2022).

    The first `start` proposals are random. Then every objective, costs too, and by how much every
    constraint is broken are predicted by kernel ridge regression of the choices; NSGA-II (Deb et
    al. 2002) searches the predictors for some generations, and one of the best of its last
    population that was not tried is proposed. LINAS evaluates whole populations between two fits,
    here every result counts at once.

    Args:
        space: where to search.
        objectives: what results are compared by. constraints: hard limits; what broke one is
            learnt from, trained or not, and not bred from.
        seed: the study's seed.
        start: how many random proposals come first.
        population, generations: of the inner search.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        seed: int = 0,
        start: int = 20,
        population: int = 50,
        generations: int = 10,
    ) -> None:
        self._genes = Genes(space)
        self._embedding = Embedding(self._genes)
        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._seed = seed
        self._start = start
        self._population = population
        self._generations = generations
        self._forget()

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals, each other than those before it."""
        if not self._past.follow(history):
            self._forget()
            self._past.follow(history)
        promise = self._predictors()
        trials, _ = self._past.points(len(self._past.told), feasible=False)
        kept = [t for t in trials[-LATEST:] if self._past.violation(int(t)) <= 0]
        parents = self._past.code(kept)
        seen, codes = set(self._past.seen), []
        for number in range(len(history.proposals), len(history.proposals) + count):
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            pool = self._genes.sample(self._population, rng)
            if number >= self._start and promise is not None:
                pool = self._bred(parents, promise, pool, rng)
            code = next((c for c in pool if c.tobytes() not in seen), None)
            if code is None:
                code = self._genes.sample(1, rng)[0]
            seen.add(code.tobytes())
            codes.append(code)
        return [Proposal(self._genes.architecture(code)) for code in codes]

    def _forget(self) -> None:
        self._past = Observations(self._genes, self._objectives, self._constraints)

    def _predictors(self) -> _Promise | None:
        """What predicts objectives and constraints; None where too few results are known."""
        past, first = self._past, len(self._past.told)
        found = [past.objective(i, first) for i in range(len(self._objectives))]
        enough = all(len(data) >= ENOUGH for data in found)
        objectives = [self._predictor(data)[0] for data in found] if enough else []
        broken = [past.constraint(str(c), first) for c in self._constraints]
        limits = [self._predictor(data) for data in broken if len(data) >= ENOUGH]
        return _Promise(self._embedding, objectives, limits) if objectives or limits else None

    def _predictor(self, data: Data) -> tuple[Posterior, float]:
        """The predictor of one quantity, and where zero is on its scale; decisions count alike."""
        values = data.values[-LATEST:]
        all_of_it = self._embedding.parts[0]
        weights = np.full(len(all_of_it.design), 1.0 / all_of_it.count)
        kernel = Parameters((Matern(all_of_it.columns, weights, 1.0),), 1.0, RIDGE)
        width = max(float(values.std()), 1e-12)
        features = self._embedding(self._past.code(data.trials[-LATEST:]))
        scaled = (values - values.mean()) / width
        return Posterior(kernel, features, scaled, np.zeros(len(values))), -values.mean() / width

    def _bred(
        self, parents: Array, promise: _Promise, pool: Array, rng: np.random.Generator
    ) -> Array:
        """The predictors' last population, each part of equal rank in random order."""
        pool = np.unique(np.concatenate([pool, promise.best(parents, self._population)]), axis=0)
        for _ in range(self._generations):
            one, other = (pool[rng.integers(len(pool), size=self._population)] for _ in range(2))
            children = self._genes.mix(one, other, rng)
            moves = rng.integers(0, 3, size=len(children))
            children = self._genes.move(children, rng, moves)
            pool = np.unique(np.concatenate([pool, children]), axis=0)
            pool = promise.best(pool, self._population)
        points, broken = promise(pool)
        points[broken > 0] = np.inf
        place = ranks(points) + rng.random(len(pool))
        found: Array = pool[np.lexsort((place, broken))]
        return found


@dataclass(frozen=True)
class _Promise:
    """The predictors of objectives, none as long as too little was trained, and of constraints."""

    embedding: Embedding
    objectives: Sequence[Posterior]
    limits: Sequence[tuple[Posterior, float]]

    def __call__(self, codes: Array) -> tuple[Array, Array]:
        """Objectives, `(N, M)`, and by how much constraints are broken, `(N,)`, standardised."""
        features = self.embedding(codes)
        points = [p.predict(features)[0] for p in self.objectives] or [np.zeros(len(codes))]
        broken = np.zeros(len(codes))
        for predictor, zero in self.limits:
            broken += np.maximum(predictor.predict(features)[0] - zero, 0.0)
        return np.stack(points, axis=1), broken

    def best(self, codes: Array, count: int) -> Array:
        """The best of some codes: what breaks no constraint, then by rank, then by crowding."""
        points, broken = self(codes)
        found = order([Standing(tuple(p), float(b)) for p, b in zip(points, broken, strict=True)])
        return codes[found[:count]]
