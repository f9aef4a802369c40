"""Our own strategy: what needs training is predicted, with doubt; what costs nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas.core.architecture import Architecture
from nas.core.objective import Constraint, Objective
from nas.core.pareto import crowding, non_dominated
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.strategies.belief import Belief, Evidence
from nas.strategies.candidates import Genes
from nas.strategies.improvement import boxes, expected_improvement
from nas.strategies.kernel import Embedding
from nas.strategies.observations import Data, Observations
from nas.strategies.protocol import first_size, proposal_seed

Array = npt.NDArray[np.float64]
Costs = Callable[[Architecture], Mapping[str, float]]

FIRST = 8  # proposals of sizes from small to the middle before any is chosen,
SPREAD = 24  # then every second one far from all others, up to this number
CANDIDATES = 999
REFINED = 20  # candidates whose neighbours are looked at too
BOLD = 3.0  # every third proposal doubts the surrogate so many times more
OWN = 0.5  # share of the noise that is the network's own, and stays when it is trained again
FRONT = {1: 1, 2: 200, 3: 60}  # front points that improvement is measured against, by objectives
MANY = 20  # the same where there are more objectives


class Surrogate:
    """Expected hypervolume improvement over a Gaussian process of what must be trained.

    Objectives that `costs` knows are never modelled: candidates come with their exact values,
    which also are features of the surrogate. Without `costs` every objective is modelled.

    The first proposals are small to middling, as those of `Evolution`, then some spread over the
    space. Then thousands of candidates, moved and mixed from
    the near-front or drawn fresh, are ranked by the hypervolume they are expected to add, times
    the probability that they keep every constraint. Hypervolume is measured up to a reference of
    its own: the median error of what was tried, and the highest cost. A pending trial counts as
    if it had come out as predicted. Every third proposal trusts the surrogate less, so a search
    that settled in one part of the space is drawn out of it.

    Sources: expected improvement of hypervolume, Emmerich et al. 2011; pending trials, Ginsbourger
    et al. 2010 (kriging believer); neighbours and mutation for discrete spaces, White et al. 2021
    (BANANAS).

    Args:
        space: where to search.
        objectives: what results are named by. constraints: hard limits.
        seed: the study's seed.
        costs: what is known of any architecture before training, by objective name, always the
            same for the same architecture.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        seed: int = 0,
        costs: Costs | None = None,
    ) -> None:
        self._space = space
        self._genes = Genes(space)
        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._seed = seed
        self._known = _Known(self._genes, costs)
        self._forget()

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals; each counts those before it as pending."""
        if not self._past.follow(history):
            self._forget()
            self._past.follow(history)
        asked: list[Array] = []
        for number in range(len(history.proposals), len(history.proposals) + count):
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            asked.append(self._next(number, asked, rng))
        return [Proposal(self._genes.architecture(code)) for code in asked]

    def _forget(self) -> None:
        self._past = Observations(self._genes, self._objectives, self._constraints)
        self._beliefs: dict[int | str, Belief] = {}

    def _next(self, number: int, asked: Sequence[Array], rng: np.random.Generator) -> Array:
        seen = self._past.seen | {code.tobytes() for code in asked}
        tried = number + int((~self._past.mine).sum())
        filling = tried < FIRST or (tried < SPREAD and number % 2 == 0)
        view = None if filling else self._view(asked)
        if view is None and tried < FIRST:
            size = first_size(self._seed, number, FIRST)
            drawn = self._genes.code(self._space.sample_sized(rng, size))
            return self._elsewhere(asked, seen, rng) if drawn.tobytes() in seen else drawn
        if view is None:
            return self._elsewhere(asked, seen, rng)
        boldness = BOLD if number % 3 == 2 else 1.0
        best, score = None, -1.0
        pool = self._pool(view.parents, rng)
        for _ in range(2):
            pool = _unseen(pool, seen)
            if not len(pool):
                break
            gains = self._gains(pool, view, boldness)
            order = np.argsort(-gains, kind="stable")
            if gains[order[0]] > score:
                best, score = pool[order[0]], float(gains[order[0]])
            near = np.repeat(pool[order[:REFINED]], 15, axis=0)
            pool = self._genes.move(near, rng, np.ones(len(near), dtype=np.int64))
        return self._elsewhere(asked, seen, rng) if best is None else best

    def _elsewhere(
        self, asked: Sequence[Array], seen: set[bytes], rng: np.random.Generator
    ) -> Array:
        """Of some random codes of all sizes the one that differs most from all that was tried."""
        drawn = [self._space.sample_sized(rng, size) for size in rng.random(60)]
        codes = np.array([self._genes.code(architecture) for architecture in drawn])
        fresh = _unseen(codes, seen)
        past = np.array([*self._past.codes.values(), *asked])
        if not len(fresh) or not len(past):
            first: Array = codes[0]
            return first
        apart = np.full(len(fresh), len(self._genes.decisions))
        for code in past:
            apart = np.minimum(apart, (fresh != code).sum(axis=1))
        farthest: Array = fresh[int(apart.argmax())]
        return farthest

    # -- what is believed

    def _view(self, asked: Sequence[Array]) -> _View | None:
        """The front as it is believed to be, or None where too little is known of something."""
        past, count = self._past, len(self._past.told)
        if count < 4:
            return None
        codes = past.code(past.told)
        waiting = np.array([*past.code(past.pending), *asked]).reshape(-1, codes.shape[1])
        known = {n: i for i, n in enumerate(self._known.names(codes[0]))}
        modelled: list[int | str] = [
            i for i, o in enumerate(self._objectives) if o.name not in known
        ]
        modelled += [str(c) for c in self._constraints if not _exact(c, known)]
        for place in modelled:
            if not self._learn(place, count, waiting):
                return None
        both = np.concatenate([codes, waiting])
        points, _ = self._predict(both)
        feasible = self._feasible(both) >= 0.5
        feasible[:count] = [past.violation(t) <= 0 for t in past.told]
        for i, belief in self._beliefs.items():
            if isinstance(i, int):
                points[:, i] = self._owned(i, belief, points[:, i])
        reference = self._reference(codes)
        mine = np.concatenate([past.mine, np.ones(len(waiting), dtype=bool)])
        front, inside = _front(points, feasible, reference)
        parents = both[inside if len(inside) else front]
        if not len(parents):
            parents = both[np.argsort([past.violation(t) for t in past.told])[:10]]
        _, inside = _front(points, feasible & mine, reference)
        low, high = boxes(_thinned(points[inside]), reference)
        return _View(parents, low, high)

    def _learn(self, place: int | str, count: int, waiting: Array) -> bool:
        """Keeps one belief up with the history; False where it has too few values to begin."""

        def after(first: int) -> Evidence:
            return self._evidence(self._data(place, first))

        evidence = after(count)
        if len(evidence.values) < 4:
            return False
        if place not in self._beliefs:
            trained = isinstance(place, int) and self._objectives[place].needs == "trained"
            embedding = Embedding(self._genes, evidence.extras.shape[1])
            cost = isinstance(place, int) and not trained
            self._beliefs[place] = Belief(embedding, warped=trained, multiplied=cost)
        self._beliefs[place].learn(evidence, count, after)
        if len(waiting):
            self._beliefs[place].imagine(waiting, self._extras(waiting))
        return True

    def _data(self, place: int | str, first: int) -> Data:
        if isinstance(place, int):
            return self._past.objective(place, first)
        return self._past.constraint(place, first)

    def _evidence(self, data: Data) -> Evidence:
        codes = self._past.code(data.trials)
        return Evidence(codes, self._extras(codes), data.values, data.doubt)

    def _owned(self, place: int, belief: Belief, points: Array) -> Array:
        """Believed values moved towards what was observed, by the share that is no noise."""
        data = self._past.objective(place, len(self._past.told))
        at = {t: i for i, t in enumerate(self._past.told)}
        rows = np.array([at[int(t)] for t in data.trials], dtype=np.int64)
        sure = data.doubt == 0
        moved = points.copy()
        observed = belief.warp(data.values)
        moved[rows[sure]] += OWN * (observed - points[rows])[sure]
        return moved

    def _reference(self, codes: Array) -> Array:
        """How far hypervolume is measured: an average error, the highest cost."""
        trained = [i for i, o in enumerate(self._objectives) if o.needs == "trained"]
        reference = np.zeros(len(self._objectives))
        known = self._known(codes)
        names = self._known.names(codes[0])
        for i, objective in enumerate(self._objectives):
            if objective.name in names:
                reference[i] = (objective.sign * known[:, names.index(objective.name)]).max()
                continue
            values = self._beliefs[i].warp(self._past.objective(i, len(codes)).values)
            average = trained == [i]
            reference[i] = np.median(values[: 2 * FIRST]) if average else values.max()
        return reference

    # -- candidates

    def _pool(self, parents: Array, rng: np.random.Generator) -> Array:
        """A third moved from the front, a third mixed within it, a third drawn fresh.

        And the parents themselves: those of other studies were not tried in this one.
        """
        third = CANDIDATES // 3
        one, two, three = (parents[rng.integers(len(parents), size=third)] for _ in range(3))
        moved = self._genes.move(one, rng, rng.integers(1, 4, size=third))
        mixed = self._genes.mix(two, three, rng)
        again = self._genes.move(mixed, rng, np.ones(third, dtype=np.int64))
        mixed = np.where(rng.random((third, 1)) < 0.5, mixed, again)
        return np.concatenate([moved, mixed, self._genes.sample(third, rng), parents])

    def _gains(self, codes: Array, view: _View, boldness: float) -> Array:
        """Hypervolume that each candidate is expected to add where it keeps all constraints."""
        mean, deviation = self._predict(codes)
        for i, belief in self._beliefs.items():
            if isinstance(i, int):
                own = OWN**2 * belief.noise
                deviation[:, i] = boldness * np.sqrt(deviation[:, i] ** 2 + own)
        return expected_improvement(mean, deviation, view.low, view.high) * self._feasible(codes)

    def _predict(self, codes: Array) -> tuple[Array, Array]:
        """Objectives of codes, minimised and warped: means, and deviations where modelled."""
        known, names = self._known(codes), self._known.names(codes[0])
        mean = np.zeros((len(codes), len(self._objectives)))
        deviation = np.zeros_like(mean)
        for i, objective in enumerate(self._objectives):
            if objective.name in names:
                mean[:, i] = objective.sign * known[:, names.index(objective.name)]
            else:
                mean[:, i], deviation[:, i] = self._beliefs[i].predict(codes, self._extras(codes))
        return mean, deviation

    def _feasible(self, codes: Array) -> Array:
        """The probability that codes keep every constraint. `(N,)`"""
        known, names = self._known(codes), self._known.names(codes[0])
        chance = np.ones(len(codes))
        for constraint in self._constraints:
            if _exact(constraint, names):
                values = known[:, names.index(constraint.name)]
                chance *= [float(constraint.violation(float(v)) <= 0) for v in values]
            else:
                belief = self._beliefs[str(constraint)]
                mean, deviation = belief.predict(codes, self._extras(codes))
                chance *= ndtr(-mean / np.maximum(deviation, 1e-12))
        return chance

    def _extras(self, codes: Array) -> Array:
        """Known costs as features, on a logarithmic scale that the first results set."""
        known = self._known(codes)
        first = np.abs(self._known(self._past.code(self._past.told[:4])))
        small = 0.1 * np.median(first, axis=0)
        found: Array = np.log1p(np.maximum(known, 0.0) / np.where(small > 0, small, 1.0))
        return found


@dataclass(frozen=True)
class _View:
    """Parents of candidates, and the boxes that the front leaves open."""

    parents: Array
    low: Array
    high: Array


class _Known:
    """What is known before training, asked for once for each code."""

    def __init__(self, genes: Genes, costs: Costs | None) -> None:
        self._genes = genes
        self._costs = costs
        self._names: list[str] | None = None
        self._asked: dict[bytes, list[float]] = {}
        self._latest: tuple[Array | None, Array] = None, np.zeros((0, 0))

    def names(self, code: Array) -> list[str]:
        """What is known, by name; asks for one code if nothing was asked yet."""
        if self._names is None:
            self._names = [] if self._costs is None else sorted(self._ask(code))
        return self._names

    def __call__(self, codes: Array) -> Array:
        """The known values of codes, one column for each name."""
        if self._costs is None or not len(codes):
            return np.zeros((len(codes), 0))
        if codes is self._latest[0]:
            return self._latest[1]
        names = self.names(codes[0])
        rows = []
        for code in codes:
            key = code.tobytes()
            if key not in self._asked:
                found = self._ask(code)
                self._asked[key] = [float(found[n]) for n in names]
            rows.append(self._asked[key])
        self._latest = codes, np.array(rows)
        return self._latest[1]

    def _ask(self, code: Array) -> Mapping[str, float]:
        return self._costs(self._genes.architecture(code)) if self._costs else {}


def _exact(constraint: Constraint, known: Sequence[str] | Mapping[str, int]) -> bool:
    """Whether a constraint is on a number that is known, and on no other form of it."""
    plain = constraint.quantile is None and constraint.batch is None
    return plain and constraint.resolution is None and constraint.name in known


def _unseen(codes: Array, seen: set[bytes]) -> Array:
    """Codes that were not proposed yet, each once."""
    unique = np.unique(codes, axis=0)
    return unique[[code.tobytes() not in seen for code in unique]]


def _front(
    points: Array, allowed: npt.NDArray[np.bool_], reference: Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which of the allowed points are not dominated by another; and which of them count."""
    front = np.flatnonzero(allowed)
    front = front[non_dominated(points[front])]
    return front, front[(points[front] < reference).all(axis=1)]


def _thinned(front: Array) -> Array:
    """A front of so many points that its boxes can be counted, spread over it."""
    most = FRONT.get(front.shape[1], MANY)
    while len(front) > most:
        front = np.delete(front, int(crowding(front).argmin()), axis=0)
    return front
