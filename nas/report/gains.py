"""A network against the untouched one, in words and as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core.measurement import Measurement
from nas.hardware.protocol import differences
from nas.report.numbers import plain


def gains(
    found: Mapping[str, Measurement], untouched: Mapping[str, Measurement]
) -> dict[str, dict[str, Any]]:
    """What each number is against the untouched network's: difference, and ratio where that is one.

    A percentage has a difference alone, anything else a ratio as well; numbers that may not be
    compared have neither, and `unlike` says why.
    """
    made: dict[str, dict[str, Any]] = {}
    for name, number in found.items():
        if name in untouched:
            before = untouched[name]
            reasons = _unlike(before, number)
            made[name] = {"unlike": reasons} if reasons else _change(before.value, number)
    return made


def _unlike(before: Measurement, after: Measurement) -> list[str]:
    if before.source != after.source:
        return [f"one is {before.source}, one {after.source}"]
    return differences(before.record, after.record)


def _change(before: float, number: Measurement) -> dict[str, Any]:
    made = {"difference": number.value - before}
    return made | ({"ratio": number.value / before} if number.unit != "%" and before else {})


def told(gained: Mapping[str, Mapping[str, Any]], names: bool = True) -> str:
    """Gains in one line, with or without the names of what was gained.

    >>> told({"accuracy": {"difference": -0.51}, "latency_ms": {"difference": -1.0, "ratio": 0.4}})
    'accuracy -0.51, latency_ms x 0.4'
    """
    values = {n: _in_words(g) for n, g in gained.items()}
    return ", ".join(f"{name} {value}" if names else value for name, value in values.items())


def _in_words(one: Mapping[str, Any]) -> str:
    if "unlike" in one:
        return "not comparable"
    if "ratio" in one:
        return f"x {plain(one['ratio'])}"
    change = float(one["difference"])
    return f"{'-' if change < 0 else '+'}{plain(abs(change))}"
