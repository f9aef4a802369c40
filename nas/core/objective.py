"""What a search minimises or maximises, and the hard limits it keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nas.core.errors import NasError, unknown
from nas.core.job import Workload
from nas.core.task import Goal, TaskSpec

Needs = Literal["choices", "module", "file", "measure", "trained"]
STATIC: tuple[Needs, ...] = ("choices", "module", "file")
TIMED = ("latency_ms", "throughput_ips")  # what a timing says
PROBED = ("peak_memory_mb", "energy_mj")  # measured on a device too, each file by itself


@dataclass(frozen=True)
class Objective:
    """A quantity with a unit and a direction.

    `needs` says what it takes to know it, cheapest first: the choices, the built module, the
    exported file, a measurement on the device, or training.
    """

    name: str
    unit: str
    goal: Goal
    needs: Needs

    @property
    def sign(self) -> float:
        """What a value is multiplied by so that less is better."""
        return 1.0 if self.goal == "minimize" else -1.0

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Objective:
        """The objective that `to_json` wrote."""
        return cls(**data)


BUILTIN: dict[str, Objective] = {
    o.name: o
    for o in (
        Objective("accuracy", "%", "maximize", "trained"),
        Objective("error", "%", "minimize", "trained"),
        Objective("latency_ms", "ms", "minimize", "measure"),
        Objective("throughput_ips", "images/s", "maximize", "measure"),
        Objective("size_mb", "10^6 bytes", "minimize", "file"),
        Objective("params", "parameters", "minimize", "module"),
        Objective("macs", "MACs", "minimize", "module"),
        Objective("peak_memory_mb", "10^6 bytes", "minimize", "module"),
        Objective("energy_mj", "mJ", "minimize", "measure"),
        Objective("trainable_params", "parameters", "minimize", "module"),
        Objective("task_mb", "10^6 bytes", "minimize", "module"),
    )
}


def known_objectives(task: TaskSpec) -> dict[str, Objective]:
    """The built-in objectives, with the task's own score beside or instead of accuracy."""
    score = Objective(task.score_name, task.score_unit, task.goal, "trained")
    if task.score_name == "accuracy":
        return {**BUILTIN, "accuracy": score}
    rest = {n: o for n, o in BUILTIN.items() if n not in ("accuracy", "error")}
    return {task.score_name: score, **rest}


def objective(
    unit: str, goal: Goal, needs: Needs = "module"
) -> Callable[[Callable[[Any], float]], Callable[[Any], float]]:
    """Marks a function of a candidate as an objective; its name is the function's name.

    The candidate has `choices`, and as far as `needs` says `module` (the trained one under
    `trained`), `file` (path of the exported network) and `task`.

    >>> @objective(unit="layers", goal="minimize", needs="choices")
    ... def depth(candidate):
    ...     return candidate.choices["depth"]
    >>> depth.objective.name
    'depth'
    """
    if goal not in ("minimize", "maximize") or needs not in (*STATIC, "trained"):
        raise NasError(
            f"an objective cannot have goal={goal!r}, needs={needs!r}",
            "goal is 'minimize' or 'maximize'; needs 'choices', 'module', 'file' or 'trained'",
        )

    def mark(function: Callable[[Any], float]) -> Callable[[Any], float]:
        function.objective = Objective(  # type: ignore[attr-defined]
            function.__name__, unit, goal, needs
        )
        return function

    return mark


_CONSTRAINT = re.compile(
    r"\s*(?P<name>\w+(?::(?![brs]\d+\b)\w+)?)"
    r"(?:\.(?P<quantile>p50|p90|p99))?"
    r"(?:@(?P<device>(?:ssh://[^\s/]+/)?[\w-]+(?:\?python=[\w./+~-]+)?))?"
    r"(?::b(?P<batch>[1-9]\d{0,4}(?:-\d{1,5})?))?(?::r(?P<resolution>[1-9]\d{0,4}))?"
    r"(?::s(?P<streams>[1-9]\d{0,3}))?"
    r"\s*(?P<sense><=|>=)\s*(?P<limit>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*"
)


@dataclass(frozen=True)
class Constraint:
    """A hard limit: `NAME[.p50|.p90|.p99][@DEVICE][:bBATCH][:rRESOLUTION][:sSTREAMS] <= NUMBER`.

    `:b1-8` means each of 1, 2, 4 and 8 examples in a call, `:s4` four callers at once.

    >>> c = Constraint.parse("latency_ms.p99@cpu:b1-8 <= 12")
    >>> c.name, c.quantile, c.device, c.batches, c.limit
    ('latency_ms', 'p99', 'cpu', (1, 2, 4, 8), 12.0)
    >>> str(c)
    'latency_ms.p99@cpu:b1-8<=12'
    """

    name: str
    sense: Literal["<=", ">="]
    limit: float
    quantile: str | None = None
    device: str | None = None
    batch: str | None = None
    resolution: int | None = None
    streams: int | None = None

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The constraint a person typed. Raises: NasError where it is not one."""
        found = _CONSTRAINT.fullmatch(text)
        if found is None:
            raise NasError(
                f"not a constraint: {text!r}",
                "write NAME<=NUMBER, for example 'latency_ms<=5' or 'latency_ms.p99@cpu<=8'",
            )
        parts = found.groupdict()
        try:
            limit = float(parts["limit"])
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise NasError(
                f"not a number in the constraint {text!r}: {parts['limit']!r}",
                "write NAME<=NUMBER, for example 'latency_ms<=5'",
            )
        resolution = int(parts["resolution"]) if parts["resolution"] else None
        sense: Literal["<=", ">="] = "<=" if parts["sense"] == "<=" else ">="
        made = cls(
            parts["name"], sense, limit,
            parts["quantile"], parts["device"], parts["batch"], resolution,
            int(parts["streams"]) if parts["streams"] else None,
        )  # fmt: skip
        if not made.batches:
            raise NasError(
                f"no batch sizes in the constraint {text!r}: b{made.batch}",
                "name the smaller one first, for example 'latency_ms:b1-8<=12'",
            )
        return made

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes it speaks of: `1-8` means 1, 2, 4 and 8."""
        if self.batch is None:
            return (1,)
        low, _, high = self.batch.partition("-")
        sizes, size = [], int(low)
        while size <= int(high or low):
            sizes.append(size)
            size *= 2
        return tuple(sizes)

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """What the limited numbers are of, each of which must keep it.

        >>> [w.name for w in Constraint.parse("latency_ms:b1-4:s2<=9").workloads]
        ['b1s2', 'b2s2', 'b4s2']
        """
        streams = self.streams or 1
        return tuple(Workload(batch, self.resolution, streams) for batch in self.batches)

    @property
    def workload(self) -> str:
        """Its workloads as `nas retarget --workload` takes them: `b1-8s2`."""
        side = f"r{self.resolution}" if self.resolution else ""
        return f"b{self.batch or 1}{side}" + (f"s{self.streams}" if self.streams else "")

    @property
    def usual(self) -> bool:
        """Whether it is of one example at the task's own resolution, as a search measures."""
        return self.workloads == (Workload(),)

    def violation(self, value: float) -> float:
        """By how much, relative to the limit, `value` breaks it; 0 or less where it holds."""
        excess = value - self.limit if self.sense == "<=" else self.limit - value
        return excess / (abs(self.limit) or 1.0)

    def __str__(self) -> str:
        quantile = f".{self.quantile}" if self.quantile else ""
        device = f"@{self.device}" if self.device else ""
        batch = f":b{self.batch}" if self.batch else ""
        resolution = f":r{self.resolution}" if self.resolution else ""
        streams = f":s{self.streams}" if self.streams else ""
        limit = repr(self.limit).removesuffix(".0")  # every digit: it is stored as this text
        return f"{self.name}{quantile}{device}{batch}{resolution}{streams}{self.sense}{limit}"


def resolve(names: list[str], known: Mapping[str, Objective]) -> list[Objective]:
    """The objectives of these names. Raises: NasError for an unknown or repeated one."""
    for name in names:
        if name not in known:
            raise unknown("objective", name, known)
        if names.count(name) > 1:
            raise NasError(f"objective {name!r} is given twice", "name each objective once")
    return [known[name] for name in names]
