"""A network against the untouched one, in words and as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core.measurement import Measurement
from nas.report.numbers import plain


def gains(
    found: Mapping[str, Measurement], untouched: Mapping[str, Measurement]
) -> dict[str, dict[str, float]]:
    """What each number is against the untouched network's: difference, and ratio where that is one.

    A percentage has a difference alone, anything else a ratio as well.
    """
    made: dict[str, dict[str, float]] = {}
    for name, number in found.items():
        if name in untouched:
            before = untouched[name]
            made[name] = {"difference": number.value - before.value}
            if number.unit != "%" and before.value:
                made[name]["ratio"] = number.value / before.value
    return made


def told(gained: Mapping[str, Mapping[str, Any]], names: bool = True) -> str:
    """Gains in one line, with or without the names of what was gained.

    >>> told({"accuracy": {"difference": -0.51}, "latency_ms": {"difference": -1.0, "ratio": 0.4}})
    'accuracy -0.51, latency_ms x 0.4'
    """
    values = {
        n: f"x {plain(g['ratio'])}" if "ratio" in g else _signed(g) for n, g in gained.items()
    }
    return ", ".join(f"{name} {value}" if names else value for name, value in values.items())


def _signed(one: Mapping[str, Any]) -> str:
    change = float(one["difference"])
    return f"{'-' if change < 0 else '+'}{plain(abs(change))}"
