"""Architectures as rows of numbers, by the thousand: drawn, moved and mixed all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture, Value
from nas.core.decision import Choice, Decision, Integer, Real, same
from nas.core.space import SearchSpace

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
ABSENT = -1.0


class Genes:
    """The codes of a space: one number for each decision of an architecture.

    A `Choice` or `Integer` is the index of its value, a `Real` its place on its scale in [0, 1];
    a decision that does not exist is `ABSENT`. All operations work on `(N, decisions)` at once,
    and keep to what `SearchSpace` would propose: conditions, `within` and `proposed` hold.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.decisions: tuple[Decision, ...] = space.listed
        self._at = {d.name: i for i, d in enumerate(self.decisions)}
        self.counts = np.array([d.count for d in self.decisions])
        self._numbers: dict[tuple[int, bool, Value], float] = {}

    def code(self, architecture: Architecture) -> Array:
        """The code of an architecture; a value that is never proposed becomes the nearest one."""
        code = np.full(len(self.decisions), ABSENT)
        for i, decision in enumerate(self.decisions):
            if decision.name in architecture.choices:
                code[i] = self._number(i, decision, architecture.choices[decision.name])
        return code

    def architecture(self, code: Array) -> Architecture:
        """The architecture of a code."""
        chosen: dict[str, Value] = {}
        for decision, number in zip(self.decisions, code.tolist(), strict=True):
            if number == ABSENT:
                continue
            if isinstance(decision, Choice | Integer):
                chosen[decision.name] = decision.values[int(number)]
            else:
                chosen[decision.name] = _real(decision, number)
        return Architecture(self._space.name, chosen)

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Random codes, as `SearchSpace.sample` draws them."""
        return self._settle(np.full((count, len(self.decisions)), np.nan), rng)

    def move(self, codes: Array, rng: np.random.Generator, moves: npt.NDArray[np.int64]) -> Array:
        """Each code with about so many of its decisions changed; what that switches on is drawn.

        On a scale half of the steps go to a neighbouring value.
        """
        moved = codes.copy()
        order = np.where(codes != ABSENT, rng.random(codes.shape), np.inf)
        order[:, self.counts <= 1] = np.inf
        chosen = (order.argsort(axis=1).argsort(axis=1) < moves[:, None]) & np.isfinite(order)
        for i, decision in enumerate(self.decisions):
            rows = np.flatnonzero(chosen[:, i])
            if len(rows):
                moved[rows, i] = self._step(decision, codes[rows, i], rng)
        return self._settle(np.where(moved == ABSENT, np.nan, moved), rng)

    def neighbours(self, code: Array, rng: np.random.Generator) -> Array:
        """All codes that differ from this one in one decision, each once; of a `Real` a few.

        What the change switches on is drawn, what it does not allow is drawn anew.
        """
        rows = []
        for i, decision in enumerate(self.decisions):
            if code[i] == ABSENT:
                continue
            if isinstance(decision, Choice | Integer):
                values = np.delete(np.arange(len(decision.values), dtype=np.float64), int(code[i]))
            else:
                values = self._step(decision, np.repeat(code[i], 4), rng)
            changed = np.repeat(code[None, :], len(values), axis=0)
            changed[:, i] = values
            rows.append(changed)
        if not rows:
            return code[None, :][:0]
        near = np.concatenate(rows)
        near = np.unique(self._settle(np.where(near == ABSENT, np.nan, near), rng), axis=0)
        found: Array = near[(near != code).any(axis=1)]
        return found

    def mix(self, ones: Array, others: Array, rng: np.random.Generator) -> Array:
        """Children that take each decision from either parent, evenly."""
        children = np.where(rng.random(ones.shape) < 0.5, ones, others)
        either = np.where(ones == ABSENT, others, ones)
        children = np.where(children == ABSENT, either, children)
        return self._settle(np.where(children == ABSENT, np.nan, children), rng)

    def _number(self, place: int, decision: Decision, value: Value) -> float:
        if not isinstance(decision, Choice | Integer):
            return float(np.clip(decision.encode(decision.repair(value, {}))[0], 0.0, 1.0))
        key = place, isinstance(value, bool), value  # True is not 1, though both are one key
        if key not in self._numbers:
            fitting = decision.repair(value, {})
            number = next(i for i, v in enumerate(decision.values) if same(v, fitting))
            self._numbers[key] = float(number)
        return self._numbers[key]

    def _step(self, decision: Decision, at: Array, rng: np.random.Generator) -> Array:
        """Another value for each: nearby on a scale with even odds, any other else."""
        if not isinstance(decision, Choice | Integer):
            return np.clip(at + 0.1 * rng.normal(size=len(at)), 0.0, 1.0)
        count = len(decision.values)
        other = (at + rng.integers(1, count, size=len(at))) % count
        if not isinstance(decision, Integer) and not decision.ordered:
            return other
        near = at + np.where(rng.random(len(at)) < 0.5, -1, 1)
        near = np.where(near < 0, 1, np.where(near >= count, count - 2, near))
        return np.where(rng.random(len(at)) < 0.5, near, other)

    def _settle(self, codes: Array, rng: np.random.Generator) -> Array:
        """Codes as architectures: what cannot exist is absent, what is nan or not allowed drawn."""
        for i, decision in enumerate(self.decisions):
            exists = self._exists(decision, codes)
            blank = exists & np.isnan(codes[:, i])
            if isinstance(decision, Choice | Integer):
                drawn = rng.integers(len(decision.values), size=len(codes)).astype(np.float64)
            else:
                drawn = rng.random(len(codes))
            codes[:, i] = np.where(blank, drawn, codes[:, i])
            if isinstance(decision, Choice) and (decision.within or decision.proposed is not None):
                self._limit(i, decision, codes, rng)
            codes[~exists, i] = ABSENT
        return codes

    def _exists(self, decision: Decision, codes: Array) -> Mask:
        exists = np.ones(len(codes), dtype=bool)
        for parent, values in (decision.when or {}).items():
            exists &= self._is(parent, values, codes)
        return exists

    def _is(self, parent: str, values: Any, codes: Array) -> Mask:
        """Whether a decision exists and has one of these values."""
        at, decision = self._at[parent], self.decisions[self._at[parent]]
        if isinstance(decision, Choice | Integer):
            allowed = [i for i, v in enumerate(decision.values) if any(same(v, w) for w in values)]
            return np.asarray(np.isin(codes[:, at], allowed), dtype=np.bool_)
        places = [decision.encode(w)[0] for w in values]
        near = np.isclose(codes[:, at, None], np.array(places)).any(axis=1)
        return np.asarray(near, dtype=np.bool_)

    def _limit(self, at: int, decision: Choice, codes: Array, rng: np.random.Generator) -> None:
        """Draws anew what is not proposed, or not beside an earlier decision's value."""
        allowed = np.ones((len(codes), len(decision.values)), dtype=bool)
        if decision.proposed is not None:
            allowed &= np.array([v in decision.proposed for v in decision.values])
        for parent, table in (decision.within or {}).items():
            for value, kept in table.items():
                fits = np.array([v in kept for v in decision.values])
                allowed[self._is(parent, [value], codes)] &= fits
        allowed[~allowed.any(axis=1), 0] = True
        mine = np.nan_to_num(codes[:, at], nan=0.0).clip(0).astype(np.int64)
        wrong = ~allowed[np.arange(len(codes)), mine]
        drawn = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1)
        codes[wrong, at] = drawn[wrong]


def _real(decision: Real, share: float) -> float:
    """The number at a place of its scale in [0, 1]."""
    if decision.log:
        value = decision.low * (decision.high / decision.low) ** share
    else:
        value = decision.low + (decision.high - decision.low) * share
    return float(decision.repair(value, {}))


def unseen(codes: Array, seen: set[bytes]) -> Array:
    """Codes that were not proposed yet, each once."""
    unique = np.unique(codes, axis=0)
    return unique[[code.tobytes() not in seen for code in unique]]


def apart(codes: Array, past: Array) -> npt.NDArray[np.int64]:
    """In how many decisions each code differs from the nearest of those of the past. `(N,)`"""
    found = np.full(len(codes), codes.shape[1], dtype=np.int64)
    for code in past:
        found = np.minimum(found, (codes != code).sum(axis=1))
    return found
