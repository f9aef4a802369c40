"""Ranks against scipy, the order of candidates against brute force, what changes on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import toy_spec
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.core.architecture import Architecture
from nas.core.front import front_of
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN, Constraint
from nas.core.retarget import candidates, compare, distances, kendall, searched, timed
from nas.core.trial import Event, Trained, Trial

SPEC = toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]))
columns = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20)


def latency(value: float, device: str = "cpu", source: Any = "measured") -> dict[str, Measurement]:
    basis = "trained file" if source == "measured" else "transfer"
    found = Measurement(
        "latency_ms", value, "ms", 0.9 * value, 1.1 * value, 0.01 * value, 40, source, basis,
        {"p99_ms": 2 * value},
    )  # fmt: skip
    return {f"latency_ms@{device}:b1/trained": found}


def trial(number: int, accuracy: float, measurements: dict[str, Measurement], **more: Any) -> Trial:
    run = Trained(0, f"{number}.onnx", accuracy, 0.1, 300, accuracy, 0.1, 150)
    given = {"state": "complete", "trained": (run,), "build": f"b{number}", **more}
    return Trial(number, Architecture("toy", {"n": number}), measurements=measurements, **given)


def points(*pairs: tuple[float, float], device: str = "cpu") -> list[Trial]:
    """Trials of these accuracies and latencies."""
    return [trial(n, a, latency(ms, device)) for n, (a, ms) in enumerate(pairs)]


class TestTau:
    @given(columns)
    def test_is_scipys(self, pairs: list[tuple[int, int]]) -> None:
        one, other = zip(*pairs, strict=True)
        expected = stats.kendalltau(one, other).statistic
        found = kendall(one, other)
        if found.value is None:
            assert np.isnan(expected)
        else:
            assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.n == len(pairs)
        assert -1 <= found.low <= (found.value or 0) <= found.high <= 1

    @pytest.mark.parametrize(("n", "correlation"), [(10, 0.3), (16, 0.8), (40, 0.95)])
    def test_the_interval_holds_the_truth_nine_times_in_ten(
        self, n: int, correlation: float
    ) -> None:
        rng = np.random.default_rng(n)
        truth = 2 / np.pi * np.arcsin(correlation)
        held = []
        for _ in range(1000):
            one = rng.standard_normal(n)
            other = correlation * one + np.sqrt(1 - correlation**2) * rng.standard_normal(n)
            found = kendall(one, other)
            held.append(found.low <= truth <= found.high)
        assert 0.85 <= np.mean(held) <= 0.95

    def test_a_perfect_order_is_not_known_for_certain(self) -> None:
        few, many = kendall(range(8), range(8)), kendall(range(60), range(60))
        assert few.value == many.value == few.high == many.high == 1.0
        assert 0.7 < few.low < many.low < 1.0

    def test_of_few_nothing_is_known(self) -> None:
        assert kendall([1, 2, 3], [3, 2, 1]) == replace(kendall([1, 2, 3], [9, 8, 7]), value=-1.0)
        assert (kendall([1, 2, 3], [3, 2, 1]).low, kendall([1, 2], [2, 1]).high) == (-1.0, 1.0)
        assert kendall([1, 1], [1, 2]).value is None
        assert kendall([], []).value is None
        four, five = kendall(range(4), range(4)), kendall(range(5), range(5))
        assert four.low == -1.0 < five.low < 1.0


class TestOrder:
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
    def test_the_distance_is_the_least_improvement_that_ends_dominance(
        self, values: list[tuple[int, int]]
    ) -> None:
        array = np.array(values, dtype=float)
        low, span = array.min(axis=0), np.ptp(array, axis=0)
        unit = (array - low) / np.where(span > 0, span, 1)
        for point, distance in zip(unit, distances(array), strict=True):
            enough, short = point - distance - 1e-9, point - distance + 1e-9
            assert not any(np.all(other < enough) for other in unit)
            assert distance == 0 or any(np.all(other < short) for other in unit)

    def test_the_front_first_then_the_nearest_to_it(self) -> None:
        trials = points((60, 9.0), (90, 1.0), (95, 3.0), (89, 1.2), (80, 2.5))
        assert [t.number for t in candidates(SPEC, trials)] == [1, 2, 3, 4, 0]

    def test_without_a_number_last_and_without_a_file_never(self) -> None:
        trials = points((60, 9.0), (90, 1.0))
        trials.append(trial(2, 99.0, {}))
        trials.append(trial(3, 99.0, latency(0.1), state="stopped"))
        trials.append(trial(4, 99.0, latency(0.1), trained=()))
        trials.append(replace(trials[1], number=5))
        assert [t.number for t in candidates(SPEC, trials)] == [1, 0, 2]

    def test_a_study_that_trains_nothing_ships_what_it_built(self) -> None:
        spec = toy_spec(objectives=(BUILTIN["macs"], BUILTIN["params"]))
        costs = {"macs": 1.0, "params": 1.0}
        built = [trial(0, 0, {}, trained=(), file="f.onnx", costs=costs),
                 trial(1, 0, {}, trained=(), costs=costs)]  # fmt: skip
        assert [t.number for t in candidates(spec, built)] == [0]
        unknown = [replace(built[0], costs={})]
        assert candidates(spec, unknown) == unknown and distances(np.zeros((0, 2))).shape == (0,)


BENCH = {"host": "h", "runtime": "r", "protocol": "p"}


def event(number: int, device: str = "gpu", **payload: Any) -> Event:
    given = {"job": "retarget", "device": device, "bench": BENCH, "processes": 1,
             "measurement": {"objective": "latency_ms"}}  # fmt: skip
    return Event("reported", number, {**given, **payload})


def test_what_was_timed_under_the_same_conditions() -> None:
    events = [
        event(0), event(0, processes=3), event(1, processes=3), event(1),
        event(2, bench={**BENCH, "host": "other"}), event(3, bench=None),
        event(4, device="cpu"), event(5, error="it hangs"),
        Event("reported", 6, {"job": "measure", "device": "gpu"}),
        event(7, measurement={"objective": "energy_mj"}),
    ]  # fmt: skip
    assert timed(events, "gpu", BENCH) == {0: 3, 1: 1}
    assert timed(events, "gpu", BENCH, "energy_mj") == {7: 1}


def test_the_search_alone_is_what_retargets_did_not_bring() -> None:
    found = latency(2.0)["latency_ms@cpu:b1/trained"].to_json()
    again = {**found, "value": 3.0}
    timing = {"form": "trained", "workload": "b1"}
    point = Architecture("toy", {"n": 1}).to_json()
    events = [
        Event("proposed", 0, {"architecture": point, "origin": "strategy", "notes": {}}),
        Event("reported", 0, {"job": "measure", "device": "cpu", "measurement": found, **timing}),
        Event("told", 0, {"state": "complete", "values": {}, "violations": {}}),
        Event("proposed", 1, {"architecture": point, "origin": "strategy", "notes": {}}),
        Event(
            "told", 1, {"state": "complete", "values": {}, "violations": {}, "reused": "trial 0"}
        ),
        event(0, device="cpu", measurement=again, **timing),
    ]
    trials = searched(events)
    assert [t.measurements["latency_ms@cpu:b1/trained"].value for t in trials] == [2.0, 2.0]
    assert searched(events[:-1]) == trials


class TestCompare:
    def test_who_joined_and_who_left(self) -> None:
        before = points((90, 1.0), (95, 3.0), (94, 4.0), (80, 2.0), (70, 5.0))
        there = (2.0, 8.0, 1.0, 9.0, 10.0)
        after = [
            replace(t, measurements={**t.measurements, **latency(ms, "gpu")})
            for t, ms in zip(before, there, strict=True)
        ]
        found = compare(SPEC, before, after, "gpu", {4: "it hangs"})
        assert [m.trial for m in front_of(SPEC, before).members] == [0, 1]
        assert [m.trial for m in found.front.members] == [2, 1]
        assert (found.origin, found.front.device) == ("cpu", "gpu")
        assert (found.joined, found.left) == ((2,), (0,))
        assert found.tau == kendall([1.0, 3.0, 4.0, 2.0, 5.0], there)
        document = found.to_json()
        assert (document["measured"], document["predicted"], document["missing"]) == (5, 0, 0)
        assert document["failed"] == {"4": "it hangs"}
        assert set(document["tau"]) == {"value", "low", "high", "n"}

    def test_predictions_and_measurements_do_not_mix(self) -> None:
        before = points((90, 1.0), (95, 3.0), (70, 5.0))
        numbers = [latency(9.0, "gpu"), latency(0.1, "gpu", "predicted"), {}]
        after = [
            replace(t, measurements={**t.measurements, **more})
            for t, more in zip(before, numbers, strict=True)
        ]
        found = compare(SPEC, before, after, "gpu")
        assert [m.trial for m in found.front.members] == [0]
        assert (found.measured, found.predicted, found.missing) == (1, 1, 1)
        assert (found.tau.n, found.tau.value) == (1, None)
        assert found.left == (1,)

    def test_a_member_without_a_number_has_not_left(self) -> None:
        before = points((90, 1.0), (95, 3.0))
        found = compare(SPEC, before, before, "gpu")
        assert (found.joined, found.left, found.missing) == ((), (), 2)
        assert not found.front.members


def test_what_cannot_be_predicted_is_no_objective_until_it_is_measured_there() -> None:
    spec = replace(SPEC, objectives=(*SPEC.objectives, BUILTIN["energy_mj"]), probes=("energy_mj",))
    trials = [
        replace(t, measurements={**t.measurements, **latency(1.0, "gpu")})
        for t in points((90, 1.0), (95, 3.0))
    ]
    there = front_of(spec, trials, "gpu")
    assert [o.name for o in there.objectives] == ["accuracy", "latency_ms"] and there.members
    assert not front_of(spec, trials).members
    assert front_of(spec, trials, "cpu").objectives == spec.objectives  # of its own device all
    energy = replace(latency(5.0)["latency_ms@cpu:b1/trained"], objective="energy_mj", unit="mJ")
    known = {"energy_mj@gpu:b1/trained": energy}
    measured = [replace(t, measurements={**t.measurements, **known}) for t in trials]
    there = front_of(spec, measured, "gpu")
    assert there.members[0].measurements["energy_mj"].value == 5.0


def test_a_constraint_on_the_device_holds_for_its_front() -> None:
    spec = replace(SPEC, constraints=(Constraint.parse("latency_ms.p99@gpu<=5"),))
    trials = [
        replace(t, measurements={**t.measurements, **latency(ms, "gpu")})
        for t, ms in zip(points((90, 1.0), (95, 3.0)), (2.0, 3.0), strict=True)
    ]
    assert [m.trial for m in front_of(spec, trials, "gpu").members] == [0]
    assert [m.trial for m in front_of(spec, trials).members] == [0, 1]


def test_a_latency_elsewhere_is_one_more_objective() -> None:
    there = replace(BUILTIN["throughput_ips"], name="throughput_ips@gpu")
    spec = replace(SPEC, objectives=(*SPEC.objectives, there))
    trials = [
        replace(t, measurements={**t.measurements, **latency(ms, "gpu")})
        for t, ms in zip(points((90, 1.0), (80, 2.0)), (4.0, 1.0), strict=True)
    ]
    front = front_of(spec, trials)
    rates = {m.trial: m.measurements["throughput_ips@gpu"].value for m in front.members}
    assert rates == {0: 250.0, 1: 1000.0}
