"""Our own strategy: what needs training is predicted, with doubt; what costs nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.strategies.belief import Belief, Evidence, Warp, usual
from nas.strategies.candidates import ABSENT, Genes, apart, unseen
from nas.strategies.curve import Curve
from nas.strategies.improvement import boxes, expected_improvement, front_within, thinned
from nas.strategies.kernel import Embedding
from nas.strategies.known import Costs, Known, exact
from nas.strategies.lighter import Lighter
from nas.strategies.neglected import neglected
from nas.strategies.observations import Data, Observations
from nas.strategies.protocol import first_size, proposal_seed
from nas.strategies.work import Counts, Work

Array = npt.NDArray[np.float64]

FIRST = 6  # proposals of sizes from small to the middle before any is chosen,
SOME = 0.5  # share that is trained to the end at least: what a rung tells is learnt of it
SPREAD = 18  # then every second one far from all others, up to this number
CANDIDATES = 999
REFINED = 20  # candidates whose neighbours are looked at too
SHORT = 8  # candidates whose work is counted before one of them is chosen
DRAWN = 400  # from the whole space, beside what was tried, are asked whether they may be the best,
HOPE = 2.0  # if they are so many deviations better than believed;
WIDER = 0.1  # improvement counts up to what those cost, and so much of the range beyond
TAIL = 6.0  # known costs so many times as far from the least as the middle one lie close together
BOLD = 3.0  # in a real search every third proposal doubts the surrogate so many times more
SETTLED = 48  # proposals after which every sixth puts a value to the test that was hardly tried
OWN = 0.5  # share of the noise that is the network's own, and stays when it is trained again


class Surrogate:
    """Expected hypervolume improvement over a Gaussian process of what must be trained.

    Objectives that `costs` knows are never modelled: candidates come with their exact values,
    which also are features of the surrogate. Without `costs` every objective is modelled.

    The first proposals are small to middling, as those of `Evolution`, then some spread over the
    space, or lighter ones where limits turn out to be tight (`Lighter`). Then thousands of
    candidates, moved and mixed from the near-front or drawn fresh, are ranked by the hypervolume
    they are expected to add, times the probability that they keep every constraint. Hypervolume is
    measured up to a reference of its own: the median error of the first networks, and a little
    beyond what the networks cost that may turn out the most accurate ones. A pending trial counts
    as if it had come out as predicted. Later every sixth proposal tries a value of a decision that
    hardly any network near the front has, and that may have been seen in bad company alone.

    A real search, of many decisions and few noisy trials, would settle in one part of the space:
    there every third proposal trusts the surrogate less.

    Where a promotion rule stops trainings, a value at the rung is a feature of the final one
    (`Curve`), and a stopped trial is resumed as soon as the improvement expected of it, for each
    epoch that it still needs, is that of the best new candidate for each epoch of a full training.
    The most promising one is resumed, too, while fewer than half are trained to the end.

    Sources: expected improvement of hypervolume, Emmerich et al. 2011; pending trials, Ginsbourger
    et al. 2010 (kriging believer); neighbours and mutation for discrete spaces, White et al. 2021
    (BANANAS).

    Args:
        space: where to search.
        objectives: what results are named by. constraints: hard limits.
        seed: the study's seed.
        costs: what is known of any architecture before training, by objective name, always the
            same for the same architecture.
        counts: counts the work of a few architectures at a time, where networks are really built
            and trained; None where a table answers.
    """

    resumes = True

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        seed: int = 0,
        costs: Costs | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._space = space
        self._genes = Genes(space)
        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._seed = seed
        self._known = Known(self._genes, costs)
        self._counts = counts
        self._forget()

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals; each counts those before it as pending."""
        if not self._past.follow(history):
            self._forget()
            self._past.follow(history)
        asked: list[Array] = []
        again: list[int] = []
        found: list[Proposal] = []
        for _ in range(count):
            number = len(history.proposals) + len(asked)
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            what = self._next(number, asked, again, rng)
            if isinstance(what, int):
                again.append(what)
                code = self._past.codes[what]
                found.append(Proposal(self._genes.architecture(code), resumes=what))
            else:
                asked.append(what)
                found.append(Proposal(self._genes.architecture(what)))
        return found

    def _forget(self) -> None:
        self._past = Observations(self._genes, self._objectives, self._constraints)
        self._beliefs: dict[int | str, Belief | Curve] = {}
        self._scales: dict[int, Warp] = {}
        self._work = self._lighter = None
        if self._counts is not None:
            self._work = Work(self._genes, self._counts)
            limits = [str(c) for c in self._constraints if self._of_a_cost(c)]
            self._lighter = Lighter(self._space, self._genes, self._work, limits)

    def _of_a_cost(self, limit: Constraint) -> bool:
        """Whether more work makes it harder to keep a limit, as it does for all but a score."""
        scores = {o.name for o in self._objectives if o.needs == "trained"} | {"accuracy", "error"}
        return limit.name not in scores

    def _next(
        self, number: int, asked: Sequence[Array], again: Sequence[int], rng: np.random.Generator
    ) -> Array | int:
        """The code of a new network, or the number of a stopped trial to go on with."""
        seen = self._past.seen | {code.tobytes() for code in asked}
        tried = number + int((~self._past.mine).sum())
        spread = SPREAD if self._work is None else FIRST
        filling = tried < FIRST or (tried < spread and number % 2 == 0)
        view = None if filling else self._view(asked, again)
        stopped = [] if filling else [t for t in self._past.resumable if t not in again]
        light = None
        if view is None and not stopped and self._lighter is not None:
            light = self._lighter.propose(self._past, asked, seen, rng)
        if light is not None:
            return light
        if view is None and tried < FIRST:
            size = first_size(self._seed, number, FIRST)
            drawn = self._genes.code(self._space.sample_sized(rng, size))
            return self._elsewhere(asked, seen, rng) if drawn.tobytes() in seen else drawn
        if view is None:
            return stopped[0] if stopped else self._elsewhere(asked, seen, rng)
        if tried >= SETTLED and number % 6 == 5 and not stopped:
            tested = self._neglected(view, asked, seen, rng)
            if tested is not None:
                return tested
        bold = self._work is not None and number % 3 == 2
        best, score = self._best(view, seen, BOLD if bold else 1.0, rng)
        if stopped:
            codes, left = self._past.code(stopped), self._past.left(stopped)
            worth = self._gains(codes, view, 1.0) / self._toil(codes, left, built=True)
            own = int(self._past.mine.sum())
            few = own - len(self._past.stopped) + len(again) < SOME * own
            if few or best is None or worth.max() >= score > 0:
                return stopped[int(worth.argmax())]
        return self._elsewhere(asked, seen, rng) if best is None else best

    def _best(
        self, view: _View, seen: set[bytes], boldness: float, rng: np.random.Generator
    ) -> tuple[Array | None, float]:
        """The new candidate that is expected to add most for its toil, and that; None without any.

        Where work can be counted, it is counted for the best few, and they are judged again.
        """
        few = 1 if self._work is None else SHORT
        short, found = list[Array](), list[Array]()
        pool = self._pool(view.parents, rng)
        for _ in range(2):
            pool = unseen(pool, seen)
            if not len(pool):
                break
            promise = self._promise(pool, view, boldness)
            order = np.argsort(-promise, kind="stable")
            short.append(pool[order[:few]])
            found.append(promise[order[:few]])
            near = np.repeat(pool[order[:REFINED]], 15, axis=0)
            pool = self._genes.move(near, rng, np.ones(len(near), dtype=np.int64))
        if not short:
            return None, -1.0
        codes, worth = np.concatenate(short), np.concatenate(found)
        if self._work is not None:
            codes = codes[np.argsort(-worth, kind="stable")[:few]]
            self._work.look(codes)
            worth = self._promise(codes, view, boldness)
        return codes[int(worth.argmax())], float(worth.max())

    def _neglected(
        self, view: _View, asked: Sequence[Array], seen: set[bytes], rng: np.random.Generator
    ) -> Array | None:
        """A network of the front, changed to have a value that was hardly tried in such company.

        The few that had it may have been bad for other reasons, and the surrogate, sure by now that
        it is bad, would not look again. So it is taken to be as good as what it replaces.
        """
        tried = np.array([*self._past.codes.values(), *asked])
        rare = neglected(self._genes, tried, view.parents, rng)
        for place, value in rare[:3]:
            parents = view.parents[~np.isin(view.parents[:, place], (value, ABSENT))]
            children = parents.copy()
            children[:, place] = value
            children = self._genes.move(children, rng, np.zeros(len(children), dtype=np.int64))
            new = np.array([code.tobytes() not in seen for code in children], dtype=np.bool_)
            kept = new & (children[:, place] == value)
            if not kept.any():
                continue
            worth = self._gains(children[kept], view, 1.0, parents[kept])
            if (worth > 0).any():
                chosen: Array = children[kept][rng.choice(len(worth), p=worth / worth.sum())]
                return chosen
        return None

    def _promise(self, codes: Array, view: _View, boldness: float) -> Array:
        """The gain expected of new networks for their toil. `(N,)`"""
        return self._gains(codes, view, boldness) / self._toil(codes, np.ones(len(codes)))

    def _toil(self, codes: Array, left: Array, built: bool = False) -> Array:
        """What it takes to train networks to their end, of which a share is left. `(N,)`

        In units of a usual training; to build and time a network is taken to be as much as that.
        """
        if self._work is None:
            return left
        return left * self._work.relative(codes) + (0.0 if built else 1.0)

    def _elsewhere(
        self, asked: Sequence[Array], seen: set[bytes], rng: np.random.Generator
    ) -> Array:
        """Of some random codes of all sizes the one that differs most from all that was tried."""
        drawn = [self._space.sample_sized(rng, size) for size in rng.random(60)]
        codes = np.array([self._genes.code(architecture) for architecture in drawn])
        fresh = unseen(codes, seen)
        past = np.array([*self._past.codes.values(), *asked])
        if not len(fresh) or not len(past):
            first: Array = codes[0]
            return first
        farthest: Array = fresh[int(apart(fresh, past).argmax())]
        return farthest

    # -- what is believed

    def _view(self, asked: Sequence[Array], again: Sequence[int]) -> _View | None:
        """The front as it is believed to be, or None where too little is known of something.

        What was stopped has children, but is not on the front.
        """
        past, count = self._past, len(self._past.told)
        if count < 4:
            return None
        codes = past.code(past.trials)
        if self._work is not None:
            self._work.learn(past, count)
        resumed = [*past.under_way, *again]
        waiting = np.array([*past.code(past.pending), *asked]).reshape(-1, codes.shape[1])
        known = {n: i for i, n in enumerate(self._known.names(codes[0]))}
        modelled: list[int | str] = [
            i for i, o in enumerate(self._objectives) if o.name not in known
        ]
        modelled += [str(c) for c in self._constraints if not exact(c, known)]
        for place in modelled:
            if not self._learn(place, count, waiting, past.code(resumed), len(modelled)):
                return None
        both = np.concatenate([codes, waiting])
        self._scales = self._scales_of(codes[: 2 * FIRST])
        points, doubts = self._predict(both)
        feasible = self._feasible(both) >= 0.5
        kept = np.array([past.violation(t) <= 0 for t in past.trials])
        feasible[: len(codes)] = kept & (past.mine | feasible[: len(codes)])  # others may not know
        for i, belief in self._beliefs.items():
            if isinstance(i, int):
                points[:, i] = self._owned(i, belief, points[:, i])
        own = len(codes)
        reference = self._reference(_Tried(points[:own], doubts[:own], feasible[:own]))
        stopped = set(past.stopped) - set(again)
        mine = [t >= 0 and t not in stopped for t in past.trials]
        mine += [True] * len(waiting)
        front, inside = front_within(points, feasible, reference)
        parents = both[inside if len(inside) else front]
        if not len(parents):
            parents = both[np.argsort([past.violation(t) for t in past.trials])[:10]]
        _, inside = front_within(points, feasible & np.array(mine), reference)
        low, high = boxes(thinned(points[inside]), reference)
        return _View(parents, low, high)

    def _learn(
        self, place: int | str, count: int, waiting: Array, resumed: Array, beliefs: int
    ) -> bool:
        """Keeps one of some beliefs up with the history; False where it has too few values."""
        if isinstance(place, int) and place == self._past.score and self._past.judged is not None:
            return self._learn_curve(place, count, np.concatenate([waiting, resumed]), beliefs)

        def after(first: int) -> Evidence:
            return self._evidence(self._data(place, first))

        evidence = after(count)
        if len(evidence.values) < 4:
            return False
        belief = self._beliefs.get(place)
        if not isinstance(belief, Belief):
            trained = isinstance(place, int) and self._objectives[place].needs == "trained"
            embedding = Embedding(self._genes, evidence.extras.shape[1])
            cost = isinstance(place, int) and not trained
            self._beliefs[place] = belief = Belief(
                embedding, warped=trained, multiplied=cost,
                in_logarithms=self._work is not None, beliefs=beliefs,
            )  # fmt: skip
        belief.learn(evidence, count, after)
        if len(waiting):
            belief.imagine(waiting, self._extras(waiting))
        return True

    def _learn_curve(self, place: int, count: int, waiting: Array, beliefs: int) -> bool:
        """The same where trainings are stopped at a rung."""
        curve = self._beliefs.get(place)
        if not isinstance(curve, Curve):
            curve = Curve(self._genes, self._past, self._extras, place, beliefs + 1)
        if not curve.learn(count):
            return False
        self._beliefs[place] = curve
        if len(waiting):
            curve.imagine(waiting, self._extras(waiting))
        return True

    def _data(self, place: int | str, first: int) -> Data:
        if isinstance(place, int):
            return self._past.objective(place, first)
        return self._past.constraint(place, first)

    def _evidence(self, data: Data) -> Evidence:
        codes = self._past.code(data.trials)
        return Evidence(codes, self._extras(codes), data.values, data.doubt)

    def _owned(self, place: int, belief: Belief | Curve, points: Array) -> Array:
        """Believed values moved towards what was observed, by the share that is no noise."""
        data = self._past.objective(place, len(self._past.told))
        at = {t: i for i, t in enumerate(self._past.trials)}
        rows = np.array([at[int(t)] for t in data.trials], dtype=np.int64)
        sure = data.doubt == 0
        moved = points.copy()
        observed = belief.warp(data.values)
        moved[rows[sure]] += OWN * (observed - points[rows])[sure]
        return moved

    def _reference(self, tried: _Tried) -> Array:
        """How far hypervolume is measured: an average error, and what the best ones may cost.

        In a real search, where costs are logarithms, it is the highest cost that was seen.
        """
        trained = [i for i, o in enumerate(self._objectives) if o.needs == "trained"]
        reference: Array = tried.points.max(axis=0)
        for i, belief in self._beliefs.items():
            if not isinstance(i, int):
                continue
            if isinstance(belief, Curve):
                reference[i] = np.median(tried.points[: 2 * FIRST, i])
                continue
            told = self._past.objective(i, len(self._past.told)).values
            values = belief.warp(told)
            reference[i] = values.max()
            if trained == [i]:
                reference[i] = np.quantile(values[: 2 * FIRST], usual(told[: 2 * FIRST]))
        costs = [i for i in range(len(reference)) if i not in trained]
        if trained and costs and self._work is None:
            reference[costs] = self._of_the_best(tried, trained)[costs]
        return reference

    def _of_the_best(self, tried: _Tried, trained: list[int]) -> Array:
        """What the networks cost that may turn out the best when trained, and a little more.

        Up to what the best one costs alone, the most accurate networks would gain next to nothing;
        up to the highest cost that was seen, expensive ones that are no better would.
        """
        drawn = self._genes.sample(DRAWN, np.random.default_rng(len(tried.points)))
        means, doubts = self._predict(drawn)
        points, doubts = (
            np.concatenate(both) for both in ((tried.points, means), (tried.doubts, doubts))
        )
        allowed = np.concatenate([tried.allowed, self._feasible(drawn) >= 0.5])
        if allowed.any():
            points, doubts = points[allowed], doubts[allowed]
        best = points.min(axis=0)
        may = (points - HOPE * doubts <= best)[:, trained].any(axis=1)
        most = points[may].max(axis=0)
        reference: Array = most + WIDER * (most - best)
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

    def _gains(
        self, codes: Array, view: _View, boldness: float, as_good_as: Array | None = None
    ) -> Array:
        """Hypervolume that each candidate is expected to add where it keeps all constraints.

        What must be trained is believed of it, or of another network in its place.
        """
        mean, deviation = self._predict(codes)
        if as_good_as is not None:
            trained = [o.needs == "trained" for o in self._objectives]
            others, doubt = self._predict(as_good_as)
            mean[:, trained], deviation[:, trained] = others[:, trained], doubt[:, trained]
        for i, belief in self._beliefs.items():
            if isinstance(i, int):
                own = OWN**2 * belief.noise
                deviation[:, i] = boldness * np.sqrt(deviation[:, i] ** 2 + own)
        return expected_improvement(mean, deviation, view.low, view.high) * self._feasible(codes)

    def _predict(self, codes: Array) -> tuple[Array, Array]:
        """Objectives of codes, minimised and warped: means, and deviations where modelled."""
        costs = self._costs(codes)
        mean = np.zeros((len(codes), len(self._objectives)))
        deviation = np.zeros_like(mean)
        for i in range(len(self._objectives)):
            if i in costs:
                mean[:, i] = self._scales[i](costs[i])
            else:
                mean[:, i], deviation[:, i] = self._beliefs[i].predict(codes, self._extras(codes))
        return mean, deviation

    def _scales_of(self, codes: Array) -> dict[int, Warp]:
        """The scales of known costs: those of a long tail lie close together, as bad errors do.

        Else the few that cost most would set the reference, and all that is cheap look the same.
        """
        scales = {}
        for i, costs in self._costs(codes).items():
            least = float(costs.min())
            tail = TAIL * (float(np.median(costs)) - least)
            scales[i] = Warp(least + tail, tail) if tail > 0 else Warp(np.inf, 1.0)
        return scales

    def _costs(self, codes: Array) -> dict[int, Array]:
        """What is known of codes, minimised, by the place of the objective."""
        known, names = self._known(codes), self._known.names(codes[0])
        return {
            i: o.sign * known[:, names.index(o.name)]
            for i, o in enumerate(self._objectives)
            if o.name in names
        }

    def _feasible(self, codes: Array) -> Array:
        """The probability that codes keep every constraint. `(N,)`"""
        known, names = self._known(codes), self._known.names(codes[0])
        chance = np.ones(len(codes))
        for constraint in self._constraints:
            if exact(constraint, names):
                values = known[:, names.index(constraint.name)]
                chance *= [float(constraint.violation(float(v)) <= 0) for v in values]
            else:
                belief = self._beliefs[str(constraint)]
                mean, deviation = belief.predict(codes, self._extras(codes))
                chance *= ndtr(-mean / np.maximum(deviation, 1e-12))
        return chance

    def _extras(self, codes: Array) -> Array:
        """Known costs as features, on a logarithmic scale that the first results set; or work."""
        if self._work is not None:
            return self._work(codes)[:, None]
        known = self._known(codes)
        first = np.abs(self._known(self._past.code(self._past.told[:4])))
        small = 0.1 * np.median(first, axis=0)
        found: Array = np.log1p(np.maximum(known, 0.0) / np.where(small > 0, small, 1.0))
        return found


@dataclass(frozen=True)
class _Tried:
    """What is believed of the networks that were tried, and which keep every constraint."""

    points: Array
    doubts: Array
    allowed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _View:
    """Parents of candidates, and the boxes that the front leaves open."""

    parents: Array
    low: Array
    high: Array
