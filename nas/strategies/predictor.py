"""Predictor search: a genetic search of what predictors promise, one evaluation at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.core.objective import Constraint, Objective
from nas.core.pareto import crowding, ranks
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.strategies.candidates import Genes
from nas.strategies.kernel import Embedding
from nas.strategies.observations import Observations
from nas.strategies.protocol import proposal_seed
from nas.strategies.regression import Parameters, Posterior

Array = npt.NDArray[np.float64]

RIDGE = 0.01  # noise of the predictors, as a share of the variance
LATEST = 500  # results that predictors are made from


class PredictorSearch:
    """Search by predictors, in the manner of LINAS (Cummings et al. 2022).

    The first `start` proposals are random. Then every objective, costs too, is predicted by kernel
    ridge regression of the choices; NSGA-II (Deb et al. 2002) searches the predictors for some
    generations, and one of the best of its last population that was not tried is proposed. LINAS
    evaluates whole populations between two fits, here every result counts at once.

    Args:
        space: where to search.
        objectives: what results are compared by. constraints: hard limits; what broke one is
            learnt from, and not bred from.
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
        trials, points = self._past.points(len(self._past.told), feasible=False)
        trials, points = trials[-LATEST:], points[-LATEST:]
        seen, codes = set(self._past.seen), []
        for number in range(len(history.proposals), len(history.proposals) + count):
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            pool = self._genes.sample(self._population, rng)
            if number >= self._start and len(trials) >= 4:
                pool = self._bred(trials, points, pool, rng)
            code = next((c for c in pool if c.tobytes() not in seen), None)
            if code is None:
                code = self._genes.sample(1, rng)[0]
            seen.add(code.tobytes())
            codes.append(code)
        return [Proposal(self._genes.architecture(code)) for code in codes]

    def _forget(self) -> None:
        self._past = Observations(self._genes, self._objectives, self._constraints)

    def _bred(
        self, trials: npt.NDArray[np.int64], points: Array, pool: Array, rng: np.random.Generator
    ) -> Array:
        """The predictors' last population, each part of equal rank in random order."""
        tried = self._past.code(trials)
        predictors = [self._predictor(tried, column) for column in points.T]
        kept = tried[[self._past.violation(int(t)) <= 0 for t in trials]]
        pool = np.unique(np.concatenate([pool, kept[_best(self._points(kept, predictors),
                                                         self._population)]]), axis=0)  # fmt: skip
        for _ in range(self._generations):
            one, other = (pool[rng.integers(len(pool), size=self._population)] for _ in range(2))
            children = self._genes.mix(one, other, rng)
            moves = rng.integers(0, 3, size=len(children))
            children = self._genes.move(children, rng, moves)
            pool = np.unique(np.concatenate([pool, children]), axis=0)
            pool = pool[_best(self._points(pool, predictors), self._population)]
        order = ranks(self._points(pool, predictors)) + rng.random(len(pool))
        found: Array = pool[np.argsort(order)]
        return found

    def _predictor(self, codes: Array, values: Array) -> Posterior:
        """One objective's predictor; all decisions count alike."""
        weights = np.full(len(self._embedding.design), 1.0 / self._embedding.count)
        kernel = Parameters(weights, 1.0, 1.0, RIDGE)
        width = max(float(values.std()), 1e-12)
        scaled = (values - values.mean()) / width
        return Posterior(kernel, self._embedding(codes), scaled, np.zeros(len(values)))

    def _points(self, codes: Array, predictors: Sequence[Posterior]) -> Array:
        features = self._embedding(codes)
        return np.stack([p.predict(features)[0] for p in predictors], axis=1)


def _best(points: Array, count: int) -> npt.NDArray[np.int64]:
    """The places of the best points: by non-dominated rank, then by crowding."""
    rank = ranks(points) if len(points) else np.zeros(0, dtype=np.int64)
    distance = np.zeros(len(points))
    for level in range(int(rank.max()) + 1 if len(rank) else 0):
        members = np.flatnonzero(rank == level)
        distance[members] = crowding(points[members])
    return np.lexsort((-distance, rank))[:count]
