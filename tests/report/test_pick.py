"""The picked point against brute force over every front, preference and limit."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from example_study import front, spread
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.core.front import Front
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN, Constraint
from nas.report.pick import bound, pick

CURVE = front(
    [
        {"accuracy": (88.0, 1.0), "latency_ms": (0.1, 0.01)},
        {"accuracy": (94.0, 1.0), "latency_ms": (0.3, 0.05)},
        {"accuracy": (96.0, 1.0), "latency_ms": (1.0, 0.1)},
        {"accuracy": (97.0, 2.0), "latency_ms": (3.0, 0.2)},
    ]
)


def limits(*texts: str) -> list[Constraint]:
    return [Constraint.parse(t) for t in texts]


points = st.lists(
    st.tuples(st.integers(0, 100), st.integers(1, 40), st.integers(0, 8)), min_size=1, max_size=8
)


@given(points, st.sampled_from(["accuracy", "latency_ms"]), st.integers(0, 45), st.integers(0, 100))
def test_the_best_allowed_point_is_taken(
    rows: list[tuple[int, int, int]], prefer: str, slowest: int, worst: int
) -> None:
    made = front([{"accuracy": (a, w), "latency_ms": (t, 0.5)} for a, t, w in rows])
    asked = limits(f"latency_ms<={slowest}", f"accuracy>={worst}")
    allowed = [i for i, (a, t, _) in enumerate(rows) if t <= slowest and a >= worst]
    if not allowed:
        with pytest.raises(NasError, match="no point of 'toy' keeps"):
            pick(made, asked, prefer)
        return
    found = pick(made, asked, prefer)
    value = {i: -rows[i][0] if prefer == "accuracy" else rows[i][1] for i in allowed}
    assert found.member.trial in allowed
    assert value[found.member.trial] == min(value.values())
    assert {m.trial for m in found.alternatives} == set(allowed) - {found.member.trial}


@given(points)
def test_the_knee_is_furthest_towards_the_ideal(rows: list[tuple[int, int, int]]) -> None:
    made = front([{"accuracy": (a, 1), "latency_ms": (t, 0.5)} for a, t, _ in rows])
    found = pick(made).member.trial
    cost = np.array([(-a, t) for a, t, _ in rows], dtype=float)
    span = np.ptp(cost, axis=0)
    unit = (cost - cost.min(axis=0)) / np.where(span > 0, span, 1)
    # the plane through the ends has the normal (1, 1): a lower sum lies further towards the ideal
    distance = [(1 - p.sum()) / np.sqrt(2) for p in unit]
    assert distance[found] == pytest.approx(max(distance))


@given(st.floats(0.5, 0.999), st.floats(0.01, 5), st.floats(-50, 50))
def test_the_bound_holds_for_that_share_of_repeats(p: float, half: float, value: float) -> None:
    made = Measurement("x", value, "", value - half, value + half, half / 4, 9, "measured", "")
    repeats = np.random.default_rng(0).normal(value, half / 1.6448536269514722, 20000)
    assert np.mean(repeats <= bound(made, "<=", p)) == pytest.approx(p, abs=0.012)
    assert np.mean(repeats >= bound(made, ">=", p)) == pytest.approx(p, abs=0.012)


def test_confidence_asks_for_room() -> None:
    asked = limits("latency_ms<=1.05")
    assert pick(CURVE, asked).member.trial == 2
    assert pick(CURVE, asked, confidence=0.95).member.trial == 1
    assert "with probability 0.95" in pick(CURVE, asked, confidence=0.95).reason


def test_defaults_are_the_knee_and_the_score_under_constraints() -> None:
    assert pick(CURVE).reason.startswith("the knee of 4 points")
    found = pick(CURVE, limits("latency_ms<=1"))
    assert found.member.trial == 2
    assert found.reason == "the highest accuracy of 3 points that keep latency_ms<=1"
    assert found.binding == ("latency_ms<=1",)


def test_regret_is_the_change_to_the_next_best() -> None:
    found = pick(CURVE, prefer="accuracy")
    assert found.next_best is not None
    assert found.next_best.trial == 2
    assert found.regret == {"accuracy": -1.0, "latency_ms": -2.0}
    assert found.binding == ()


def test_binding_constraints_by_brute_force() -> None:
    texts = ["latency_ms<=0.5", "accuracy>=90", "latency_ms<=2"]
    asked = limits(*texts)
    taken = pick(CURVE, asked, "accuracy").member.trial
    alone = [
        text
        for text, rest in zip(texts, itertools.combinations(asked, 2), strict=False)
        if pick(CURVE, [c for c in asked if str(c) != text], "accuracy").member.trial != taken
    ]
    assert alone == ["latency_ms<=0.5"]
    assert list(pick(CURVE, asked, "accuracy").binding) == alone


def test_two_limits_that_exclude_the_same_point_are_both_named() -> None:
    found = pick(CURVE, limits("latency_ms<=1.5", "latency_ms<=2"), "accuracy")
    assert found.binding == ("latency_ms<=1.5", "latency_ms<=2")


def test_the_only_point() -> None:
    found = pick(CURVE, limits("latency_ms<=0.1"))
    assert found.reason == "the only point that keeps latency_ms<=0.1"
    assert (found.next_best, found.regret, found.alternatives) == (None, {}, ())


def test_the_document_is_plain() -> None:
    document = pick(CURVE, limits("latency_ms<=1")).to_json()
    assert (document["trial"], document["next_best"], document["alternatives"]) == (2, 1, [1, 0])
    assert document["measurements"]["latency_ms"]["high"] == 1.1


def test_quantiles_come_from_the_record() -> None:
    rows = [{"accuracy": (90.0, 1.0), "latency_ms": (1.0, 0.1)}]
    made = front(rows)
    timing = made.members[0].measurements["latency_ms"]
    object.__setattr__(timing, "record", {"p99_ms": 1.6})
    assert pick(made, limits("latency_ms.p99<=1.7")).member.trial == 0
    with pytest.raises(NasError, match=r"0\.1 ms \(6\.7 %\) above latency_ms\.p99<=1\.5"):
        pick(made, limits("latency_ms.p99<=1.5"))
    with pytest.raises(NasError, match="has no p50 of latency_ms"):
        pick(made, limits("latency_ms.p50<=1.5"))


EMPTY = Front("toy", "space", "cpu", CURVE.objectives, (), CURVE.trials, 0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("made", "asked", "more", "problem", "hint"),
    [
        (
            CURVE, ["latency_ms<=0.08"], {},
            "no point of 'toy' keeps latency_ms<=0.08: the nearest, trial 0, "
            "is 0.02 ms (25 %) above latency_ms<=0.08",
            "relax it: nas pick toy --device cpu --constraint 'latency_ms<=0.1'",
        ),
        (
            CURVE, ["accuracy>=99", "latency_ms<=4"], {"confidence": 0.9},
            "no point of 'toy' keeps accuracy>=99 and latency_ms<=4 with probability 0.9: "
            "the nearest, trial 3, is 3.558 % (3.6 %) below accuracy>=99",
            "relax it: nas pick toy --device cpu --constraint 'accuracy>=95.4' "
            "--constraint 'latency_ms<=4' --confidence 0.9",
        ),
        (CURVE, ["size_mb<=1"], {}, "no objective of 'toy' named 'size_mb'",
         "known: accuracy, latency_ms"),
        (CURVE, ["latency_ms@phone<=1"], {},
         "latency_ms@phone<=1 speaks of 'phone', this front is of 'cpu'",
         "leave out @phone, or see: nas front toy --device phone"),
        (CURVE, ["latency_ms:b8<=1"], {},
         "latency_ms:b8<=1 speaks of a workload that the front does not measure",
         "the front is of batch 1 at the task's own resolution: 'latency_ms<=1'"),
        (CURVE, [], {"prefer": "latency"}, "no preference named 'latency'",
         "did you mean 'latency_ms'? known: accuracy, knee, latency_ms"),
        (CURVE, [], {"confidence": 95}, "not a confidence: 95",
         "it is a probability from 0.5 to below 1: --confidence 0.95"),
        (EMPTY, [], {}, "the front of 'toy' is empty", "see why: nas show toy"),
    ],
)  # fmt: skip
def test_mistakes(
    made: Front, asked: list[str], more: dict[str, object], problem: str, hint: str
) -> None:
    with pytest.raises(NasError) as caught:
        pick(made, limits(*asked), **more)
    assert (caught.value.problem, caught.value.hint) == (problem, hint)


@given(points, st.integers(0, 30), st.integers(50, 120))
def test_the_relaxed_limits_of_the_hint_let_the_nearest_point_in(
    rows: list[tuple[int, int, int]], slowest: int, worst: int
) -> None:
    made = front([{"accuracy": (a, 1), "latency_ms": (t + 0.123, 0.5)} for a, t, _ in rows])
    try:
        pick(made, limits(f"latency_ms<={slowest}", f"accuracy>={worst}"))
    except NasError as error:
        relaxed = [part.partition("'")[0] for part in error.hint.split("--constraint '")[1:]]
        assert len(relaxed) == 2
        pick(made, limits(*relaxed))


def test_a_limit_may_be_on_another_device_that_the_front_knows() -> None:
    rows = [
        {"accuracy": (90.0, 1.0), "latency_ms": (0.1, 0.01)},
        {"accuracy": (95.0, 1.0), "latency_ms": (0.9, 0.01)},
    ]
    there = (4.0, 2.0)
    plain = front(rows)
    elsewhere = replace(BUILTIN["latency_ms"], name="latency_ms@gpu")
    members = tuple(
        replace(m, measurements={**m.measurements, elsewhere.name: spread("latency_ms", ms, 0.5)})
        for m, ms in zip(plain.members, there, strict=True)
    )
    both = replace(plain, objectives=(*plain.objectives, elsewhere), members=members)
    found = pick(both, limits("latency_ms@gpu<=3"), "latency_ms")
    assert (found.member.trial, found.binding) == (1, ("latency_ms@gpu<=3",))
    assert pick(both, limits("latency_ms@gpu<=3"), "latency_ms", 0.95).member.trial == 1
    with pytest.raises(NasError, match=r"the nearest, trial 1, is 1 ms .* above") as error:
        pick(both, limits("latency_ms@gpu<=1", "latency_ms<=2"))
    assert error.value.hint.startswith("relax it: nas pick toy --device cpu --constraint ")
    assert "'latency_ms@gpu<=2'" in error.value.hint
    with pytest.raises(NasError, match="speaks of 'gpu', this front is of 'cpu'"):
        pick(plain, limits("latency_ms@gpu<=3"))
    with pytest.raises(NasError, match="speaks of 'gpu'"):
        pick(both, limits("accuracy@gpu>=3"))


def under(*rows: tuple[float, dict[str, float]]) -> Front:
    """A front of accuracy and latency, with latencies under workloads beside them."""
    plain = front([{"accuracy": (a, 1.0), "latency_ms": (w["b1"], 0.01)} for a, w in rows])
    names = {f"latency_ms@cpu:{work}" for _, w in rows for work in w if work != "b1"}
    more = tuple(replace(BUILTIN["latency_ms"], name=name) for name in sorted(names))
    members = tuple(
        replace(
            member,
            measurements=member.measurements
            | {
                f"latency_ms@cpu:{k}": spread("latency_ms", v, 0.2)
                for k, v in w.items()
                if k != "b1"
            },
        )
        for member, (_, w) in zip(plain.members, rows, strict=True)
    )
    return replace(plain, objectives=(*plain.objectives, *more), members=members)


LOADED = under(
    (90.0, {"b1": 1.0, "b2": 1.5, "b4": 3.0, "b1s2": 1.1}),
    (95.0, {"b1": 1.2, "b2": 2.4, "b4": 4.8, "b1s2": 2.2}),
)


@pytest.mark.parametrize(
    ("limit", "taken"),
    [("latency_ms:b1-4<=5", 1), ("latency_ms:b1-4<=4", 0), ("latency_ms:b1-2<=2.5", 1),
     ("latency_ms:s2<=2", 0), ("latency_ms@cpu:b4<=4.8", 1)],
)  # fmt: skip
def test_a_limit_holds_for_each_of_its_workloads(limit: str, taken: int) -> None:
    assert pick(LOADED, limits(limit)).member.trial == taken


def test_a_quantile_of_a_throughput_is_a_rate() -> None:
    plain = front([{"accuracy": (90.0, 1.0), "throughput_ips": (2000.0, 1.0)}])
    (member,) = plain.members
    numbers = dict(member.measurements)
    rate = numbers["throughput_ips"]
    numbers["throughput_ips"] = replace(rate, record={"batch": 8, "p99_ms": 8.0})
    slower = replace(plain, members=(replace(member, measurements=numbers),))
    assert pick(slower, limits("throughput_ips.p99>=1000")).member.trial == member.trial
    with pytest.raises(NasError, match=r"below throughput_ips\.p99>=1500"):
        pick(slower, limits("throughput_ips.p99>=1500"))


def test_an_impossible_workload_says_by_how_much_its_worst_batch_fails() -> None:
    with pytest.raises(NasError, match=r"trial 0, is 1 ms \(50 %\) above latency_ms:b1-4<=2"):
        pick(LOADED, limits("latency_ms:b1-4<=2"))
    assert pick(LOADED, limits("latency_ms:b1-4<=4.85")).member.trial == 1
    assert pick(LOADED, limits("latency_ms:b1-4<=4.85"), confidence=0.95).member.trial == 0


@given(points, st.floats(0.1, 5), st.floats(0.1, 5))
def test_weights_against_brute_force(
    rows: list[tuple[int, int, int]], first: float, second: float
) -> None:
    made = front([{"accuracy": (a, 1), "latency_ms": (t, 0.5)} for a, t, _ in rows])
    found = pick(made, prefer=f"accuracy={first},latency_ms={second}").member.trial
    cost = np.array([(-a, t) for a, t, _ in rows], dtype=float)
    span = np.ptp(cost, axis=0)
    unit = (cost - cost.min(axis=0)) / np.where(span > 0, span, 1)
    sums = unit @ [first, second]
    assert sums[found] == pytest.approx(min(sums), abs=1e-9)


@pytest.mark.parametrize("text", ["accuracy=x", "accuracy=-1", "accuracy=0", "size=1"])
def test_what_is_no_weight(text: str) -> None:
    with pytest.raises(NasError):
        pick(CURVE, prefer=text)


def test_other_networks_are_not_the_same_one_compressed() -> None:
    choices = [
        {"width": 8, "bitwidth.weights": "fp32"}, {"width": 8, "bitwidth.weights": "int8"},
        {"width": 16, "bitwidth.weights": "int8"}, {"width": 32, "bitwidth.weights": "fp32"},
    ]  # fmt: skip
    members = tuple(replace(m, choices=c) for m, c in zip(CURVE.members, choices, strict=True))
    made = replace(CURVE, space="toy+bitwidth", members=members)
    found = pick(made, prefer="latency_ms")
    assert found.member.trial == 0
    assert found.others == {2: {"width": (8, 16)}, 3: {"width": (8, 32)}}
    assert found.to_json()["others"] == {"2": {"width": [8, 16]}, "3": {"width": [8, 32]}}
