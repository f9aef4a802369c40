"""What a limit is held against, worked out by hand."""

from __future__ import annotations

import pytest
from conftest import toy_spec

from nas.core.architecture import Architecture
from nas.core.front import held
from nas.core.limits import number_of, violation
from nas.core.measurement import Measurement
from nas.core.objective import Constraint
from nas.core.trial import Trial

SPEC = toy_spec()


def timing(value: float, batch: int = 1, source: str = "measured", **record: float) -> Measurement:
    return Measurement("latency_ms", value, "ms", 0.5 * value, 2 * value, 0.1, 9, source,
                       "untrained form", {"batch": batch, **record})  # fmt: skip


def timed(**found: Measurement) -> Trial:
    """A trial with timings by workload."""
    names = {f"latency_ms@cpu:{work}/untrained": m for work, m in found.items()}
    return Trial(0, Architecture("toy", {}), costs={"macs": 7.0}, measurements=names)


def number(text: str, found: Measurement) -> Measurement:
    """What of a timing a limit is of."""
    return number_of(Constraint.parse(text), found)


def excess(text: str, trial: Trial) -> float | None:
    return violation(trial, Constraint.parse(text), SPEC)


def test_a_range_of_batches_is_kept_where_all_are_and_broken_where_any_is() -> None:
    slow, quick = timing(6.0), timing(4.0)
    assert excess("latency_ms:b1-2<=5", timed(b1=quick)) is None  # b2 may still break it
    assert excess("latency_ms:b1-2<=5", timed(b2=slow)) == pytest.approx(0.2)
    assert excess("latency_ms:b1-2<=5", timed(b1=quick, b2=quick)) == pytest.approx(-0.2)
    assert excess("latency_ms:b1-2<=5", timed(b1=quick, b2=slow)) == pytest.approx(0.2)
    assert excess("latency_ms:b1-2<=5", timed()) is None


def test_a_quantile_is_of_the_workload_that_is_limited() -> None:
    trial = timed(b1=timing(1.0, p99_ms=9.0), b8=timing(4.0, 8, p99_ms=6.0))
    assert excess("latency_ms.p99:b8<=5", trial) == pytest.approx(0.2)
    assert excess("latency_ms:b8<=5", trial) == pytest.approx(-0.2)


def test_throughput_counts_the_examples_of_a_call_and_its_callers() -> None:
    timings = {"b8": timing(4.0, 8, p99_ms=8.0), "b1s2": timing(4.0, streams=2)}
    trial = timed(**timings)
    assert number("throughput_ips:b8>=1", timings["b8"]).value == 2000.0
    assert number("throughput_ips.p99:b8>=1", timings["b8"]).value == 1000.0
    assert number("throughput_ips:s2>=1", timings["b1s2"]).value == 500.0
    assert excess("throughput_ips:b8>=2500", trial) == pytest.approx(0.2)


def test_a_prediction_under_a_workload_breaks_a_limit_with_its_whole_interval() -> None:
    trial = timed(b8=timing(8.0, 8, "predicted"))
    assert excess("latency_ms:b8<=5", trial) == pytest.approx(-0.2)
    assert excess("latency_ms:b8<=2", trial) == pytest.approx(1.0)


def test_what_is_held_is_the_worst_of_the_workloads_and_absent_where_one_is_unknown() -> None:
    limits = ("latency_ms:b1-2<=5", "throughput_ips:b1-2>=100", "latency_ms:b1-4<=5", "macs<=9")
    spec = toy_spec(constraints=tuple(map(Constraint.parse, limits)))
    found = held(timed(b1=timing(3.0), b2=timing(4.0, 2)), spec)
    values = {limit: number.value for limit, number in found.items()}
    assert values == {limits[0]: 4.0, limits[1]: pytest.approx(1000 / 3), limits[3]: 7.0}
    broken = held(timed(b1=timing(6.0)), spec)
    assert broken[limits[0]].value == 6.0  # whatever b2 takes


def test_what_is_held_of_a_prediction_keeps_its_interval_and_says_so() -> None:
    limits = ("latency_ms<=5", "throughput_ips>=150")
    spec = toy_spec(constraints=tuple(map(Constraint.parse, limits)))
    latency, rate = held(timed(b1=timing(8.0, source="predicted")), spec).values()
    assert (latency.low, latency.value, latency.high) == (4.0, 8.0, 16.0)
    assert (rate.low, rate.value, rate.high) == (62.5, 125.0, 250.0)
    assert latency.source == rate.source == "predicted" and rate.unit == "images/s"


def test_a_quantile_has_no_interval_of_its_own() -> None:
    p99 = number("latency_ms.p99<=5", timing(4.0, p99_ms=6.0))
    assert (p99.low, p99.value, p99.high) == (6.0, 6.0, 6.0)


def test_what_is_probed_is_held_against_its_own_number() -> None:
    spec = toy_spec(probes=("energy_mj",))
    limit = Constraint.parse("energy_mj<=4")
    probed = Trial(0, Architecture("toy", {}), costs={"energy_mj": 1.0},
                   measurements={"energy_mj@cpu:b1/untrained": timing(5.0)})  # fmt: skip
    assert violation(probed, limit, spec) == pytest.approx(0.25)
    assert violation(timed(b1=timing(5.0)), limit, spec) is None
    assert violation(timed(), Constraint.parse("params<=4"), spec) is None
