"""A number with its doubt: floats never travel alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["measured", "predicted"]
Z90 = 1.6448536269514722  # deviations to either side that hold 90 % of a normal distribution


@dataclass(frozen=True)
class Measurement:
    """One objective's value on one candidate, with how it came about.

    Args:
        objective: name of the objective (`latency_ms`).
        value: the number, in `unit`.
        unit: its unit.
        low, high: where a repeat of the whole step falls with 90 % (a fresh process for a latency,
            a fresh training seed and fresh validation images for an accuracy).
        se: standard error of `value` itself; membership of the front is computed from it.
        n: how many samples `value` rests on.
        source: `measured` or `predicted`.
        basis: how (`trained file`, `untrained form`, `counted`, `table`, `anchored`, `transfer`,
            `datasheet`, `extrapolated`).
        record: everything else worth keeping: quantiles, samples, versions, host.
    """

    objective: str
    value: float
    unit: str
    low: float
    high: float
    se: float
    n: int
    source: Source
    basis: str
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def exact(cls, objective: str, value: float, unit: str, basis: str = "counted") -> Measurement:
        """A number without doubt: a count or a size.

        >>> Measurement.exact("params", 10, "parameters").high
        10
        """
        return cls(objective, value, unit, value, value, 0.0, 1, "measured", basis)

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        return {**vars(self), "record": dict(self.record)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """The measurement that `to_json` wrote."""
        return cls(**data)
