"""Constraints on a second device: what a search is planned with, and what is refused."""

from __future__ import annotations

import pytest

from nas.api import searching
from nas.core.errors import NasError
from nas.core.study import StudySpec


def planned(*constraints: str, objectives: tuple[str, ...] = ()) -> StudySpec:
    return searching.plan(
        "largekernel", "cpu", "digits", objectives, constraints, "random", "halving", (), 4, None,
        None, "limited", 0, False,
    )  # fmt: skip


def test_candidates_are_timed_where_constraints_say() -> None:
    spec = planned("latency_ms@a100<=2", "latency_ms.p99<=4")
    assert spec.devices == ("cpu", "a100")
    assert {"hardware_profiles/a100.toml", "hardware_profiles/cpu.toml"} <= set(spec.files)
    alone = planned("throughput_ips@a100>=90", objectives=("accuracy", "macs"))
    assert (alone.devices, alone.measures) == (("a100",), True)
    assert StudySpec.from_json(spec.to_json()) == spec


def test_what_no_device_changes_is_refused() -> None:
    with pytest.raises(NasError, match="accuracy is the same on every device"):
        planned("accuracy@a100>=90")
    with pytest.raises(NasError, match="no device named 'a101'"):
        planned("latency_ms@a101<=2")
