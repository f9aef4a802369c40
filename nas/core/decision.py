"""The kinds of decision a search space is made of: a choice, an integer, a real number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.core.architecture import Choices, Value
from nas.core.errors import NasError

When = Mapping[str, Sequence[Value]]


def same(a: Any, b: Any) -> bool:
    """Equal and of the same nature: 1 is 1.0, but not True.

    >>> same(1, 1.0), same(1, True)
    (True, False)
    """
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def is_number(value: Any) -> bool:
    """Whether values can be ordered along a line (a bool cannot)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Choice:
    """One of a few values.

    Args:
        name: dotted path, `stages.2.kernel`.
        values: what can be chosen, all of one nature; numbers in ascending order are treated as a
            scale by mutation, surrogates and plots.
        when: the decision exists only while each named earlier decision has one of these values.
        within: `{"stem.stride": {1: [3, 5], 2: [3]}}`: what may be *proposed* given an earlier
            decision's value. A preset or a user may name any other value of the list.
        proposed: the values that may be proposed at all, where those are not all.

    >>> Choice("kernel", [3, 5], within={"stride": {2: [3]}}).allowed({"stride": 2})
    (3,)
    """

    name: str
    values: Sequence[Value]
    when: When | None = None
    within: Mapping[str, Mapping[Value, Sequence[Value]]] | None = None
    proposed: Sequence[Value] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values or len(set(map(repr, self.values))) < len(self.values):
            raise NasError(
                f"decision {self.name!r} has no values or one of them twice: {list(self.values)}",
                "give each value once, at least one",
            )

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers in ascending order."""
        return all(map(is_number, self.values)) and list(self.values) == sorted(self.values)

    def allowed(self, choices: Choices) -> tuple[Value, ...]:
        """The values that may be proposed beside these choices; never empty."""
        values = tuple(self.values if self.proposed is None else self.proposed)
        for parent, table in (self.within or {}).items():
            if parent in choices and choices[parent] in table:
                values = tuple(v for v in values if v in table[choices[parent]])
        return values or (self.values[0],)

    def legal(self, value: Any) -> bool:
        """Whether `value` is one of the values."""
        return any(same(value, v) for v in self.values)

    def draw(self, rng: np.random.Generator, choices: Choices) -> Value:
        """A value drawn evenly from those allowed."""
        allowed = self.allowed(choices)
        return allowed[int(rng.integers(len(allowed)))]

    def at(self, share: float, choices: Choices) -> Value:
        """The allowed value at this share, in [0, 1), of the list."""
        allowed = self.allowed(choices)
        return allowed[int(share * len(allowed))]

    def move(self, value: Value, rng: np.random.Generator, choices: Choices) -> Value:
        """Another allowed value: mostly the next one on a scale, any other otherwise."""
        others = [v for v in self.allowed(choices) if not same(v, value)]
        if not others:
            return value
        if self.ordered and is_number(value) and rng.random() < 0.5:
            others.sort(key=lambda v: abs(float(v) - float(value)))
            others = others[:2]
        return others[int(rng.integers(len(others)))]

    def repair(self, value: Any, choices: Choices, plainly: bool = False) -> Value:
        """`value` where it is allowed, the nearest allowed one otherwise.

        Of words none is near another: the place in the list decides, so that what a strategy may
        not propose is spread over what it may; `plainly` it is the first, which in an axis leaves
        the network alone.
        """
        allowed = self.allowed(choices)
        for option in allowed:
            if same(option, value):
                return option
        if self.ordered and is_number(value):
            return min(allowed, key=lambda v: abs(float(v) - float(value)))
        index = next((i for i, v in enumerate(self.values) if same(v, value)), 0)
        return allowed[0 if plainly else index % len(allowed)]

    def encode(self, value: Value | None) -> list[float]:
        """A scale in [0, 1] for ordered values, one place for each otherwise."""
        if self.ordered:
            if value is None:
                return [0.5]
            at = np.interp(float(value), [float(v) for v in self.values], range(len(self.values)))
            return [float(at) / max(1, len(self.values) - 1)]
        return [float(value is not None and same(v, value)) for v in self.values]

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.values)


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included, in steps of `step`.

    >>> Integer("depth", 1, 9, step=4).values
    (1, 5, 9)
    """

    name: str
    low: int
    high: int
    step: int = 1
    when: When | None = None

    def __post_init__(self) -> None:
        if self.low > self.high or self.step < 1 or (self.high - self.low) % self.step:
            raise NasError(
                f"decision {self.name!r} has no such range: "
                f"low={self.low}, high={self.high}, step={self.step}",
                "low <= high, and step divides high - low",
            )

    @property
    def values(self) -> tuple[int, ...]:
        """Every value, ascending."""
        return tuple(range(self.low, self.high + 1, self.step))

    def legal(self, value: Any) -> bool:
        """Whether `value` is a whole number of the range."""
        return is_number(value) and value in self.values

    def draw(self, rng: np.random.Generator, choices: Choices) -> int:
        """A value drawn evenly."""
        return int(rng.choice(self.values))

    def at(self, share: float, choices: Choices) -> int:
        """The value at this share, in [0, 1), of the range."""
        return self.values[int(share * len(self.values))]

    def move(self, value: Value, rng: np.random.Generator, choices: Choices) -> int:
        """Another value, nearby."""
        reach = max(1, len(self.values) // 5)
        near = [v for v in self.values if 0 < abs(v - float(value)) <= reach * self.step]
        return int(rng.choice(near)) if near else self.repair(value, choices)

    def repair(self, value: Any, choices: Choices) -> int:
        """The nearest value of the range; the lowest for what is no number."""
        if not is_number(value):
            return self.low
        return min(self.values, key=lambda v: abs(v - value))

    def encode(self, value: Value | None) -> list[float]:
        """Position in the range, in [0, 1]."""
        if value is None:
            return [0.5]
        return [(float(value) - self.low) / max(1, self.high - self.low)]

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.values)


@dataclass(frozen=True)
class Real:
    """A number from `low` to `high`, on a logarithmic scale if `log`.

    >>> Real("dropout", 0.0, 0.5).legal(0.7)
    False
    """

    name: str
    low: float
    high: float
    log: bool = False
    when: When | None = None

    def __post_init__(self) -> None:
        if not (self.low < self.high) or (self.log and self.low <= 0):
            raise NasError(
                f"decision {self.name!r} has no such range: low={self.low}, high={self.high}",
                "low < high, and low > 0 on a logarithmic scale",
            )

    def legal(self, value: Any) -> bool:
        """Whether `value` is a number of the range."""
        return is_number(value) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator, choices: Choices) -> float:
        """A value drawn evenly on the scale."""
        return self.at(rng.random(), choices)

    def at(self, share: float, choices: Choices) -> float:
        """The value at this share, in [0, 1], of the scale."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return float(self.low + (self.high - self.low) * share)

    def move(self, value: Value, rng: np.random.Generator, choices: Choices) -> float:
        """A value nearby: a normal step of a tenth of the scale."""
        share = float(np.clip(self.encode(value)[0] + 0.1 * rng.normal(), 0, 1))
        return self.at(share, choices)

    def repair(self, value: Any, choices: Choices) -> float:
        """The nearest value of the range; the lowest for what is no number."""
        return float(min(max(value, self.low), self.high)) if is_number(value) else self.low

    def encode(self, value: Value | None) -> list[float]:
        """Position on the scale, in [0, 1]."""
        if value is None:
            return [0.5]
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return [(at - low) / (high - low)]

    @property
    def count(self) -> float:
        """Uncountably many."""
        return math.inf


Decision = Choice | Integer | Real


def is_active(decision: Decision, choices: Choices) -> bool:
    """Whether the decision exists beside these (earlier, active) choices."""
    return all(
        parent in choices and any(same(choices[parent], v) for v in values)
        for parent, values in (decision.when or {}).items()
    )


def parents(decision: Decision) -> set[str]:
    """The earlier decisions that this one looks at."""
    within = decision.within if isinstance(decision, Choice) else None
    return set(decision.when or {}) | set(within or {})
