"""Local search: the neighbours of what is best so far, until none is left to try."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.core.objective import Constraint, Objective
from nas.core.pareto import non_dominated
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.strategies.candidates import Genes
from nas.strategies.observations import Observations
from nas.strategies.protocol import proposal_seed

Array = npt.NDArray[np.float64]


class LocalSearch:
    """Pareto local search (Paquete et al. 2004), for networks as in White et al. 2021.

    The first `start` proposals are random. Then each is a neighbour, one decision away, of a
    member of the front; as long as nothing is feasible, of what breaks the constraints least. A
    member whose neighbours were all proposed is left; where that is so of every member, the search
    starts anew at a random network.

    Args:
        space: where to search.
        objectives: what results are compared by. constraints: hard limits.
        seed: the study's seed.
        start: how many random proposals come first.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        seed: int = 0,
        start: int = 10,
    ) -> None:
        self._genes = Genes(space)
        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._seed = seed
        self._start = start
        self._forget()

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals."""
        if not self._past.follow(history):
            self._forget()
            self._past.follow(history)
        front = self._front()
        seen, codes = set(self._past.seen), []
        for number in range(len(history.proposals), len(history.proposals) + count):
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            code = self._next(front if number >= self._start else front[:0], seen, rng)
            seen.add(code.tobytes())
            codes.append(code)
        return [Proposal(self._genes.architecture(code)) for code in codes]

    def _forget(self) -> None:
        self._past = Observations(self._genes, self._objectives, self._constraints)

    def _front(self) -> Array:
        """The codes of the best so far. What breaks a constraint may never have been trained."""
        past = self._past
        trials, points = past.points(len(past.told))
        if any(past.violation(int(t)) <= 0 for t in trials):
            return past.code(trials[non_dominated(points)])
        broken = np.array([past.violation(t) for t in past.trials], dtype=np.float64)
        return past.code(np.array(past.trials)[broken <= broken.min(initial=np.inf)])

    def _next(self, front: Array, seen: set[bytes], rng: np.random.Generator) -> Array:
        """A new neighbour of a front member drawn at random, or a new random code."""
        for place in rng.permutation(len(front)):
            near = self._genes.neighbours(front[place], rng)
            fresh = [code for code in near if code.tobytes() not in seen]
            if fresh:
                chosen: Array = fresh[int(rng.integers(len(fresh)))]
                return chosen
        codes = self._genes.sample(50, rng)
        return next((code for code in codes if code.tobytes() not in seen), codes[0])
