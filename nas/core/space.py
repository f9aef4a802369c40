"""A search space: declared decisions, what they build, and the operations searching needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture, Choices, Value
from nas.core.decision import Choice, Decision, is_active, parents, same
from nas.core.errors import NasError, unknown
from nas.core.refusals import limited, reasons
from nas.core.scaling import Scaling
from nas.core.target import Target
from nas.core.task import Task, TaskSpec

Decisions = Sequence[Decision]
TOGETHER = 0.8  # correlation of ordered decisions in `sample_sized`


class Excluded(NasError):
    """Two choices that exclude each other; `architecture` is the one that they would be of."""

    def __init__(self, problem: str, hint: str, architecture: Architecture | None = None) -> None:
        super().__init__(problem, hint)
        self.architecture = architecture


@dataclass(frozen=True)
class SearchSpace:
    """Decisions, in an order in which each depends only on earlier ones, and what they build.

    Args:
        name: the space's name, the file's name.
        decisions: a list, or a function of the task that returns one (`SearchSpace.at` calls it).
        build: `build(choices, task)` returns the `torch.nn.Module` that maps `task.input` to
            `task.outputs`; it imports torch itself, so that spaces can be listed without torch.
        presets: known networks as named points. A preset may use values that are never proposed.
        transforms: what is done to a network once it is built (`nas.core.axis.join`).
        scale: `scale(choices, rule)` returns the choices of a deeper and wider network; None where
            nothing of the space has depth or width.
        trained: of choices what a training depends on (`nas.core.axis.Axis`).
        target: what the study wants, and of what device, once that is known (`SearchSpace.at`).

    >>> from nas.core.decision import Choice, Integer
    >>> space = SearchSpace("toy", [Choice("kernel", [3, 7]), Integer("depth", 1, 4),
    ...     Choice("dilation", [1, 2], when={"kernel": [3]})], build=lambda choices, task: None)
    >>> space.size
    12
    >>> dict(space.architecture({"kernel": 7, "depth": 2, "dilation": 2}).choices)
    {'depth': 2, 'kernel': 7}
    """

    name: str
    decisions: Decisions | Callable[[TaskSpec], Decisions]
    build: Callable[[Choices, Task | TaskSpec], Any]
    presets: Mapping[str, Choices] = field(default_factory=dict)
    transforms: Callable[[Choices, Task | TaskSpec], Sequence[Any]] = field(
        default=lambda choices, task: ()
    )
    scale: Callable[[Choices, Scaling], Mapping[str, Value]] | None = None
    target: Target | None = None
    trained: Callable[[Choices], Choices] = field(default=lambda choices: choices)

    def at(self, task: TaskSpec, target: Target | None = None) -> SearchSpace:
        """This space with its decisions worked out for a task, and for a study where one is named.

        What is refused (`nas.core.refusals`) is not proposed.
        """
        listed = self.decisions(task) if callable(self.decisions) else self.decisions
        return replace(self, decisions=limited(listed, target), target=target)

    @property
    def listed(self) -> tuple[Decision, ...]:
        """The decisions, in order. Raises: NasError where they still wait for a task (`at`)."""
        if callable(self.decisions):
            raise NasError(f"space {self.name!r} depends on the task", "call space.at(task) first")
        names: set[str] = set()
        for decision in self.decisions:
            late = parents(decision) - names
            if late or decision.name in names:
                raise NasError(
                    f"space {self.name!r}: decision {decision.name!r} "
                    + (f"depends on {sorted(late)}, declared later" if late else "comes twice"),
                    "declare each decision once, after those it depends on",
                )
            names.add(decision.name)
        return tuple(self.decisions)

    def active(self, choices: Choices) -> list[Decision]:
        """The decisions that have an effect beside these choices."""
        kept: dict[str, Value] = {}
        found = []
        for decision in self.listed:
            if is_active(decision, kept):
                found.append(decision)
                if decision.name in choices:
                    kept[decision.name] = choices[decision.name]
        return found

    def check(self, choices: Choices) -> list[str]:
        """Every fault of these choices, in words; empty when they are an architecture."""
        names = {d.name for d in self.listed}
        faults = [f"{n}: not a decision of this space" for n in choices if n not in names]
        for decision in self.active(choices):
            if decision.name not in choices:
                faults.append(f"{decision.name}: missing")
            elif not self._legal(decision, choices[decision.name]):
                value = choices[decision.name]
                faults.append(f"{decision.name}={value!r}: not in {describe(decision)}")
        refused = reasons(choices, self.target)
        return faults + [f"{pair} exclude each other: {why}" for pair, why in refused]

    def architecture(self, choices: Choices) -> Architecture:
        """The architecture these choices name; decisions without effect are dropped.

        Raises:
            Excluded: where there is no other fault, the two choices that exclude each other, and
                why.
            NasError: naming every fault at once.
        """
        faults, excluded = self.check(choices), self.excluded(choices)
        if excluded and len(faults) == len(reasons(choices, self.target)):
            raise excluded
        if faults:
            raise NasError(f"not an architecture of {self.name!r}", "; ".join(faults))
        return self._named(choices)

    def excluded(self, choices: Choices) -> Excluded | None:
        """The error for the first two of these choices that exclude each other; None without."""
        for pair, why in reasons(choices, self.target):
            hint = f"{why}; change one of the two"
            return Excluded(f"{pair} exclude each other", hint, self._named(choices))
        return None

    def _named(self, choices: Choices) -> Architecture:
        named = {d.name: choices[d.name] for d in self.active(choices) if d.name in choices}
        return Architecture(self.name, named)

    def preset(self, name: str) -> Architecture:
        """A published network by its name; what a preset does not name takes its first value.

        Raises: NasError with the nearest names; Excluded.
        """
        if name not in self.presets:
            raise unknown(f"preset of {self.name!r}", name, self.presets)
        named = self.presets[name]
        excluded = self.excluded(named)  # before what is missing beside them is missed
        if excluded:
            raise excluded
        return self.architecture({**self.repair(named).choices, **named})

    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random architecture: each decision drawn evenly from what may be proposed."""
        chosen: dict[str, Value] = {}
        for decision in self.listed:
            if is_active(decision, chosen):
                chosen[decision.name] = decision.draw(rng, chosen)
        return Architecture(self.name, chosen)

    def sample_sized(self, rng: np.random.Generator, size: float) -> Architecture:
        """A random architecture of about this size, from 0, the small ones, to 1, the large.

        Ordered decisions are drawn about one common place on their scales (a Gaussian copula), so
        over all sizes each value is as likely as with `sample`; but there nearly all networks have
        about the mean size, because small and large decisions cancel.
        """
        normal = NormalDist()
        common = normal.inv_cdf(min(max(size, 1e-6), 1 - 1e-6))
        chosen: dict[str, Value] = {}
        for decision in self.listed:
            if not is_active(decision, chosen):
                continue
            if isinstance(decision, Choice) and not decision.ordered:
                chosen[decision.name] = decision.draw(rng, chosen)
                continue
            own = TOGETHER * common + math.sqrt(1 - TOGETHER**2) * rng.normal()
            chosen[decision.name] = decision.at(min(normal.cdf(own), 1 - 1e-12), chosen)
        return Architecture(self.name, chosen)

    def repair(self, choices: Mapping[str, Any], plainly: bool = False) -> Architecture:
        """The architecture nearest to any values: what is missing or not allowed is replaced.

        `plainly`, as for what a person chose elsewhere: a word that is not allowed here becomes the
        first that is (2:4 without a kernel is dense, and not zeros of another kind).
        """
        chosen: dict[str, Value] = {}
        for decision in self.listed:
            if is_active(decision, chosen):
                value = choices.get(decision.name)
                if self._kept(value, decision):
                    chosen[decision.name] = value
                elif isinstance(decision, Choice):
                    chosen[decision.name] = decision.repair(value, chosen, plainly)
                else:
                    chosen[decision.name] = decision.repair(value, chosen)
        return Architecture(self.name, chosen)

    def neighbours(
        self, architecture: Architecture, rng: np.random.Generator, count: int = 1
    ) -> list[Architecture]:
        """`count` architectures that differ from this one in one drawn decision.

        What the change switches on is drawn anew; what it no longer allows is repaired.
        """
        return [self._mutate(architecture, rng) for _ in range(count)]

    def _mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        for _ in range(100):
            listed = self.active(architecture.choices)
            moved = listed[int(rng.integers(len(listed)))]
            chosen: dict[str, Value] = {}
            for decision in self.listed:
                if not is_active(decision, chosen):
                    continue
                value = architecture.choices.get(decision.name)
                if value is None:
                    chosen[decision.name] = decision.draw(rng, chosen)
                elif decision is moved:
                    chosen[decision.name] = decision.move(value, rng, chosen)
                else:
                    chosen[decision.name] = value
            child = self.repair(chosen)
            if child != architecture:
                return child
        return self.sample(rng)

    def crossover(
        self, one: Architecture, other: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """A child that takes each decision from either parent, evenly, then is repaired."""
        chosen: dict[str, Value] = {}
        for decision in self.listed:
            if is_active(decision, chosen):
                have = [
                    a.choices[decision.name] for a in (one, other) if decision.name in a.choices
                ]
                if have:
                    chosen[decision.name] = have[int(rng.integers(len(have)))]
                else:
                    chosen[decision.name] = decision.draw(rng, chosen)
        return self.repair(chosen)

    def encode(self, architecture: Architecture) -> npt.NDArray[np.float64]:
        """The architecture as a vector `(F,)` for surrogates, all entries in [0, 1].

        Ordered decisions are positions on their scale, others one place for each value; a
        conditional decision adds a place that says whether it exists.
        """
        row: list[float] = []
        for decision in self.listed:
            value = architecture.choices.get(decision.name)
            row += decision.encode(value)
            if decision.when:
                row.append(float(value is not None))
        return np.clip(np.array(row, dtype=np.float64), 0.0, 1.0)

    @property
    def size(self) -> float:
        """How many architectures may be proposed, counted exactly; infinite with a `Real`."""
        return _count(list(self.listed), {})

    def _published(self, decision: Decision) -> list[Value]:
        return [p[decision.name] for p in self.presets.values() if decision.name in p]

    def _kept(self, value: Any, decision: Decision) -> TypeGuard[Value]:
        """Whether repair leaves a preset's unusual value alone: where nothing limits proposals."""
        limited = isinstance(decision, Choice) and decision.within
        if limited or not any(same(value, v) for v in self._published(decision)):
            return False
        return not reasons({decision.name: value}, self.target)

    def _legal(self, decision: Decision, value: Any) -> bool:
        return decision.legal(value) or any(same(value, v) for v in self._published(decision))


def describe(decision: Decision) -> str:
    """A decision's range in words, for tables and errors."""
    if hasattr(decision, "values"):
        return "[" + ", ".join(map(str, decision.values)) + "]"
    return f"{decision.low} .. {decision.high}"


def _count(decisions: list[Decision], fixed: dict[str, Value]) -> float:
    """Counts assignments: independent parts multiply; a part is summed over its first parent."""
    total: float = 1
    for part in _components(decisions):
        looked_at = {p for d in part for p in parents(d)}
        parent = next((d for d in part if d.name in looked_at), None)
        if parent is None:
            total *= _options(part[0], fixed)[1] if is_active(part[0], fixed) else 1
            continue
        rest = [d for d in part if d is not parent]
        if not is_active(parent, fixed):
            total *= _count(rest, fixed)
            continue
        values, _ = _options(parent, fixed)
        total *= sum(_count(rest, {**fixed, parent.name: v}) for v in values)
    return total


def _options(decision: Decision, fixed: dict[str, Value]) -> tuple[Sequence[Value], float]:
    """The values that may be proposed, and how many."""
    if isinstance(decision, Choice):
        allowed = decision.allowed(fixed)
        return allowed, len(allowed)
    return getattr(decision, "values", ()), decision.count


def _components(decisions: list[Decision]) -> list[list[Decision]]:
    """Groups of decisions that look at each other, directly or through a third, in order."""
    groups: list[list[Decision]] = []
    for decision in decisions:
        linked = [g for g in groups if any(d.name in parents(decision) for d in g)]
        groups = [g for g in groups if g not in linked]
        groups.append([d for g in linked for d in g] + [decision])
    order = {d.name: i for i, d in enumerate(decisions)}
    return [sorted(g, key=lambda d: order[d.name]) for g in groups]
