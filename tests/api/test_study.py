"""What of a front may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from example_study import front

from nas.api.study import compared
from nas.core.front import Front


def told(name: str, records: Mapping[int, Mapping[str, Any]]) -> dict[int, list[str]]:
    """What is told of a front whose members have these records of an objective."""
    made = front([{"accuracy": (90.0, 1.0), name: (2.0, 0.5)}] * len(records))
    members = [
        replace(m, trial=trial, measurements={name: replace(m.measurements[name], record=record)})
        for m, (trial, record) in zip(made.members, records.items(), strict=True)
    ]
    found: Front = compared(replace(made, members=tuple(members)), [])
    return {trial: list(reasons) for trial, reasons in found.unlike.items()}


@pytest.mark.parametrize("name", ["peak_memory_mb", "energy_mj", "latency_ms"])
def test_what_two_hosts_measured_is_told_apart_whatever_it_is(name: str) -> None:
    assert told(name, {1: {"host": "a"}, 2: {"host": "b"}}) == {2: ["host: 'a' and 'b'"]}
    assert told(name, {1: {"host": "a"}, 2: {"host": "a"}}) == {}


def test_every_number_is_compared_with_all_before_it() -> None:
    def anchored(ms: float, **before: str) -> dict[str, Any]:
        return {"sessions": [{"before": before, "anchors_ms": {"dense": ms}}]}

    drifted = {1: anchored(1.0), 2: anchored(1.04), 3: anchored(0.96)}
    assert told("latency_ms", drifted) == {3: ["anchor dense: -7.7%"]}
    silent = {1: anchored(1.0), 2: anchored(1.0, boost="1"), 3: anchored(1.0, boost="0")}
    assert told("latency_ms", silent) == {3: ["boost: 1 and 0"]}
    another = {1: {"host": "a"}, 2: {"host": "b"}, 3: {"host": "a"}}
    assert list(told("latency_ms", another)) == [2], "what is apart speaks for no other"
