"""Our own evolution, on the architectures themselves: tournaments by rank, aging, no repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.core.architecture import Architecture
from nas.core.objective import Objective
from nas.core.promotion import Standing, order
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.strategies.protocol import first_size, proposal_seed


@dataclass(frozen=True)
class _Individual:
    """A trial whose result is known."""

    architecture: Architecture
    standing: Standing


class Evolution:
    """Multi-objective regularised evolution (Real et al. 2019; ranks of Deb et al. 2002).

    The first `start` proposals are random, of sizes spread from the smallest to the middle: small
    networks are known soon, and children grow where that pays. After them a parent is the best of
    a few drawn from the last `population` results: feasible before infeasible, then by
    non-dominated rank, then by crowding. Old results fall out however good they are, so a lucky
    measurement does not breed for ever. A child is a neighbour of one parent, a mixture of two, or
    a neighbour of a mixture.

    A network that was proposed before is not proposed again, unless `tries` draws and as many
    steps find no other.

    Args:
        space: where to search.
        objectives: what to compare by; trials that lack one are compared only if infeasible.
        seed: the study's seed.
        start: how many random proposals come first.
        population: how many of the latest results may be parents.
        tournament: how many are drawn to choose a parent from.
        crossover: share of children with two parents.
        tries: draws, and then steps, until a network that was proposed before is proposed again.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int,
        start: int = 8,
        population: int = 64,
        tournament: int = 5,
        crossover: float = 0.5,
        tries: int = 20,
    ) -> None:
        self._space = space
        self._objectives = tuple(objectives)
        self._seed = seed
        self._start = start
        self._population = population
        self._tournament = tournament
        self._crossover = crossover
        self._tries = tries
        self._forget()

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals."""
        if not self._follow(history):
            self._forget()
            self._follow(history)
        ranked = self._ranked()
        proposals: list[Proposal] = []
        asked: set[bytes] = set()
        for number in range(len(history.proposals), len(history.proposals) + count):
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            random = number < self._start or not ranked
            size = first_size(self._seed, number, self._start) if random else None
            child = self._new(ranked, size, rng, asked)
            asked.add(_name(child))
            proposals.append(Proposal(child))
        return proposals

    def _new(
        self,
        ranked: Sequence[Architecture],
        size: float | None,
        rng: np.random.Generator,
        asked: set[bytes],
    ) -> Architecture:
        """A child, or a random architecture of that `size`.

        Where all that are drawn were proposed before, it walks on from neighbour to neighbour, out
        of a region that is used up.
        """
        for _ in range(self._tries):
            child = (
                self._child(ranked, rng) if size is None else self._space.sample_sized(rng, size)
            )
            if _name(child) not in self._known and _name(child) not in asked:
                return child
        for _ in range(self._tries):
            child = self._space.neighbours(child, rng)[0]
            if _name(child) not in self._known and _name(child) not in asked:
                return child
        return child

    def _child(self, ranked: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        parent = self._parent(ranked, rng)
        if rng.random() < self._crossover:
            parent = self._space.crossover(parent, self._parent(ranked, rng), rng)
            if rng.random() < 0.5:
                return parent
        return self._space.neighbours(parent, rng)[0]

    def _parent(self, ranked: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        return ranked[int(rng.integers(len(ranked), size=self._tournament).min())]

    def _ranked(self) -> list[Architecture]:
        """The latest results, best first."""
        pool = self._results
        return [pool[i].architecture for i in order([p.standing for p in pool])]

    def _forget(self) -> None:
        self._known: set[bytes] = set()
        self._proposed: dict[int, Architecture] = {}
        self._results: list[_Individual] = []
        self._read = 0
        self._last: Event | None = None

    def _follow(self, history: History) -> bool:
        """Reads what is new; False where the past is not what this instance has read."""
        if self._last is not None and (
            self._read > len(history) or history.events[self._read - 1] != self._last
        ):
            return False
        for event in history.events[self._read :]:
            if event.kind == "proposed":
                architecture = Architecture.from_json(event.payload["architecture"])
                self._known.add(_name(architecture))
                if architecture.space == self._space.name:
                    self._proposed[event.trial] = architecture
            elif event.kind == "told":
                self._told(event)
            self._read += 1
            self._last = event
        return True

    def _told(self, event: Event) -> None:
        """A parent to be, where enough is known of it; the first result of a trial stays."""
        architecture = self._proposed.pop(event.trial, None)
        if architecture is None or event.payload["state"] == "failed":
            return
        violations = event.payload.get("violations", {}).values()
        violation = float(sum(v for v in violations if v > 0))
        values = event.payload.get("values", {})
        point = tuple(o.sign * values.get(o.name, math.nan) for o in self._objectives)
        if violation > 0 or all(map(math.isfinite, point)):
            self._results.append(_Individual(architecture, Standing(point, violation)))
            del self._results[: -self._population]


def _name(architecture: Architecture) -> bytes:
    """A network in 16 bytes: a search may propose millions."""
    return bytes.fromhex(architecture.key)
