"""Who goes on at a rung: non-dominated rank for each item, with diversity in the deciding front."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.core.pareto import crowding, dominates, ranks

LATEST = 500  # of those who reached a rung, whom a rule compares with
FULL = 8  # trials that are trained to the end whatever the first rung says


@dataclass(frozen=True)
class Standing:
    """A trial at a rung: its objectives (all minimised) and its summed constraint violation."""

    values: tuple[float, ...]
    violation: float = 0.0


def order(standings: Sequence[Standing]) -> list[int]:
    """Indices from best to worst: feasible before infeasible, then rank, then crowding.

    Infeasible standings are ordered by violation. Ties keep their order of arrival.
    """
    feasible = [i for i, s in enumerate(standings) if s.violation <= 0]
    broken = [i for i, s in enumerate(standings) if s.violation > 0]
    points = np.array([standings[i].values for i in feasible], dtype=np.float64)
    front = ranks(points) if feasible else np.zeros(0, dtype=np.int64)
    distance = np.zeros(len(feasible))
    for rank in set(front.tolist()):
        members = np.flatnonzero(front == rank)
        distance[members] = crowding(points[members])
    inside = sorted(range(len(feasible)), key=lambda i: (front[i], -distance[i], feasible[i]))
    broken.sort(key=lambda i: (standings[i].violation, i))
    return [feasible[i] for i in inside] + broken


def beats(one: Standing, other: Standing) -> bool:
    """Whether `one` dominates `other`, constraints first.

    What is feasible beats what is not, and of two that are not, the lesser violation beats (Deb et
    al. 2002).

    >>> beats(Standing((9.0,), violation=0.1), Standing((1.0,), violation=0.2))
    True
    """
    if one.violation <= 0 and other.violation <= 0:
        return dominates(one.values, other.values)
    return max(one.violation, 0.0) < max(other.violation, 0.0)


def none(earlier: Sequence[Standing], trial: Standing, reduction: int) -> bool:
    """Everybody goes on."""
    return True


def halving(earlier: Sequence[Standing], trial: Standing, reduction: int) -> bool:
    """Whether a trial is in the best 1/reduction, rounded up, of those at this rung so far.

    Asynchronous successive halving (Li et al. 2020) by non-dominated rank for each item. A trial
    that no earlier one beats goes on as well: at a later rung all who came are good, and a best
    third of them would lose what may be on the front. On random points members of the final front
    go on whatever the number of rungs, and of the dominated ones a third.

    >>> halving([Standing((1.0, 1.0))] * 5, Standing((2.0, 2.0)), 3)
    False
    >>> halving([Standing((1.0, 1.0))] * 5, Standing((0.0, 9.0)), 3)
    True
    """
    beaten_by, ahead = _place(earlier, trial)
    return not beaten_by or ahead * reduction < len(earlier) + 1


def _place(earlier: Sequence[Standing], trial: Standing) -> tuple[int, int]:
    """In how many fronts others beat a trial that arrives last; how many `order` has before it."""
    feasible = [s.values for s in earlier if s.violation <= 0]
    if trial.violation > 0:
        broken = [s.violation for s in earlier if s.violation > 0]
        better = len(feasible) + sum(v < trial.violation for v in broken)
        return better, better + broken.count(trial.violation)
    points = np.array([*feasible, trial.values], dtype=np.float64)
    front = ranks(points)
    beside = np.flatnonzero(front == front[-1])
    distance = crowding(points[beside])
    nearer = int((distance[:-1] >= distance[-1]).sum())
    return int(front[-1]), int((front < front[-1]).sum()) + nearer


class Reached:
    """Those who reached a rung, as far as a rule needs them: the latest, and the best there was.

    A best third is told as well by the latest `LATEST` as by all, and in the same time however
    many there are. Whether a trial beats all earlier ones is known of all of them.
    """

    def __init__(self) -> None:
        self._latest: deque[tuple[int, Standing]] = deque(maxlen=LATEST)
        self._numbers: set[int] = set()
        self._best: tuple[float, ...] | None = None
        self._held = False  # whether somebody is as good as `_best` in everything

    def add(self, number: int, standing: Standing) -> None:
        """Takes in a trial; its first standing counts."""
        if number in self._numbers:
            return
        if len(self._latest) == LATEST:
            self._numbers.discard(self._latest[0][0])
        self._latest.append((number, standing))
        self._numbers.add(number)
        best = self._best or standing.values
        lower = tuple(min(pair) for pair in zip(best, standing.values, strict=True))
        self._held = standing.values == lower or (self._held and best == lower)
        self._best = lower

    def earlier(self, number: int) -> list[Standing]:
        """The standings of the latest others, by the number of their trials."""
        found = sorted((n for n in self._latest if n[0] != number), key=lambda n: n[0])
        return [standing for _, standing in found]

    def beaten(self, number: int, standing: Standing) -> bool:
        """Whether a trial that keeps all constraints beats every other one that was ever here."""
        if number in self._numbers or self._best is None:
            return all(beats(standing, s) for s in self.earlier(number))
        if any(a > b for a, b in zip(standing.values, self._best, strict=True)):
            return False
        return standing.values != self._best or not self._held


def leading(earlier: Sequence[Standing], trial: Standing, reduction: int) -> bool:
    """Whether a trial goes on at once where a strategy may resume those that do not.

    The first few do, so that it is seen what a rung tells of the end, and whoever beats all
    earlier ones.

    >>> leading([Standing((1.0, 1.0))] * 9, Standing((0.5, 1.5)), 3)
    False
    """
    return len(earlier) < FULL or all(beats(trial, s) for s in earlier)


def judged(epochs: Sequence[float], reduction: int) -> int:
    """The one rung at which a strategy that resumes trials judges them: near 1/reduction^2 of all.

    >>> judged([5, 15, 45, 100], reduction=3), judged([3, 10], reduction=3)
    (1, 0)
    """
    aim = math.log(epochs[-1] / reduction**2)
    return min(range(len(epochs) - 1), key=lambda i: abs(math.log(epochs[i]) - aim), default=0)


Rule = Callable[[Sequence[Standing], Standing, int], bool]
RULES: dict[str, Rule] = {"none": none, "halving": halving, "hyperband": halving}


def bracket(trial: int, rungs: int, reduction: int) -> int:
    """The first rung at which a trial may be stopped under Hyperband (Li et al. 2018).

    Bracket 0 stops from the first rung, the last never; trials are dealt to brackets in the
    proportion that gives each about the same training, by trial number alone.

    >>> [bracket(t, rungs=3, reduction=3) for t in range(13)].count(0)
    9
    """
    shares = [reduction ** (rungs - 1 - b) for b in range(rungs)]
    place = trial % sum(shares)
    for number, share in enumerate(shares):
        if place < share:
            return number
        place -= share
    return rungs - 1
