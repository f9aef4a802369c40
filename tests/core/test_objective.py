"""Constraints as people type them, objectives as they are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.core.objective import BUILTIN, Constraint, Objective, known_objectives, objective, resolve
from nas.core.task import TaskSpec


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("latency_ms<=5", ("latency_ms", "<=", 5.0, None, None, None, None)),
        (" latency_ms  <=  5 ", ("latency_ms", "<=", 5.0, None, None, None, None)),
        ("accuracy >= 75.5", ("accuracy", ">=", 75.5, None, None, None, None)),
        ("params<=1e6", ("params", "<=", 1e6, None, None, None, None)),
        ("macs<=2.5E+9", ("macs", "<=", 2.5e9, None, None, None, None)),
        ("gain>=-0.5", ("gain", ">=", -0.5, None, None, None, None)),
        ("latency_ms.p90<=5", ("latency_ms", "<=", 5.0, "p90", None, None, None)),
        ("latency_ms@pi-5<=5", ("latency_ms", "<=", 5.0, None, "pi-5", None, None)),
        ("latency_ms:b8<=5", ("latency_ms", "<=", 5.0, None, None, "8", None)),
        ("latency_ms:b1-16<=5", ("latency_ms", "<=", 5.0, None, None, "1-16", None)),
        ("latency_ms:r64<=5", ("latency_ms", "<=", 5.0, None, None, None, 64)),
        ("latency_ms.p50@cpu:b8:r64<=5", ("latency_ms", "<=", 5.0, "p50", "cpu", "8", 64)),
        ("birdnet:widest<=64", ("birdnet:widest", "<=", 64.0, None, None, None, None)),
        ("birdnet:widest:b4<=64", ("birdnet:widest", "<=", 64.0, None, None, "4", None)),
        ("birdnet:b8_head<=64", ("birdnet:b8_head", "<=", 64.0, None, None, None, None)),
    ],
)
def test_parses(text: str, parts: tuple[object, ...]) -> None:
    made = Constraint.parse(text)
    assert (
        made.name, made.sense, made.limit, made.quantile, made.device, made.batch, made.resolution
    ) == parts  # fmt: skip
    assert Constraint.parse(str(made)) == made


@pytest.mark.parametrize(
    "text",
    ["", "latency_ms", "latency_ms<5", "latency_ms=5", "latency_ms==5", "<=5", "latency_ms<=",
     "latency_ms<=five", "latency_ms<=5ms", "latency_ms<=1.2.3", "latency_ms<=.", "5<=latency_ms",
     "latency_ms.p42<=5", "latency_ms@<=5", "latency_ms:b0<=5",
     "latency_ms:b8-1<=5", "latency_ms:r0<=5", "latency ms<=5", "latency_ms<=5 or", "a<=1<=2",
     "latency_ms<=nan", "latency_ms<=1e999", "latency_ms\n<=5\nx"],
)  # fmt: skip
def test_refuses_what_is_no_constraint(text: str) -> None:
    with pytest.raises(NasError) as caught:
        Constraint.parse(text)
    assert caught.value.hint


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["<=", ">="]))
def test_no_digit_of_a_limit_is_lost(limit: float, sense: str) -> None:
    made = Constraint.parse(f"macs{sense}{limit!r}")
    assert made.limit == limit
    assert Constraint.parse(str(made)) == made


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        made = Constraint.parse(text)
    except NasError:
        return
    assert Constraint.parse(str(made)) == made and made.batches


def test_batches() -> None:
    assert Constraint.parse("latency_ms:b4<=1").batches == (4,)
    assert Constraint.parse("latency_ms:b2-9<=1").batches == (2, 4, 8)
    assert Constraint.parse("latency_ms<=1").batches == (1,)


@pytest.mark.parametrize(
    ("text", "workload", "usual"),
    [
        ("latency_ms<=1", "b1", True),
        ("latency_ms.p99@pi<=1", "b1", True),
        ("latency_ms:b1-4<=1", "b1-4", False),
        ("latency_ms:r64<=1", "b1r64", False),
        ("latency_ms:b8:r64:s2<=1", "b8r64s2", False),
    ],
)
def test_a_limits_workloads(text: str, workload: str, usual: bool) -> None:
    made = Constraint.parse(text)
    assert (made.workload, made.usual) == (workload, usual)
    assert [w.batch for w in made.workloads] == list(made.batches)
    assert {(w.resolution, w.streams) for w in made.workloads} == {
        (made.resolution, made.streams or 1)
    }


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_violation_is_above_zero_exactly_where_the_limit_is_broken(
    limit: float, value: float
) -> None:
    at_most, at_least = Constraint("x", "<=", limit), Constraint("x", ">=", limit)
    # The difference of two floats is 0 only where they are equal.
    assert (at_most.violation(value) > 0) == (value > limit)
    assert (at_least.violation(value) > 0) == (value < limit)


def test_violations_are_relative_to_the_limit() -> None:
    assert Constraint.parse("latency_ms<=4").violation(5) == pytest.approx(0.25)
    assert Constraint.parse("accuracy>=80").violation(60) == pytest.approx(0.25)
    assert Constraint.parse("gain<=0").violation(0.5) == pytest.approx(0.5)


def test_the_sign_makes_less_better() -> None:
    assert BUILTIN["accuracy"].sign == -1.0 and BUILTIN["macs"].sign == 1.0


def test_a_task_brings_its_own_score() -> None:
    assert known_objectives(TaskSpec("digits", (1, 8, 8), 10))["accuracy"].goal == "maximize"
    own = TaskSpec("x:f", (1, 8, 8), 10, score_name="rmse", score_unit="mm", goal="minimize")
    known = known_objectives(own)
    assert known["rmse"] == Objective("rmse", "mm", "minimize", "trained")
    assert "accuracy" not in known and "error" not in known and "macs" in known


def test_resolve_names_the_nearest() -> None:
    assert [o.name for o in resolve(["macs", "params"], BUILTIN)] == ["macs", "params"]
    with pytest.raises(NasError, match="latency_ms"):
        resolve(["latency"], BUILTIN)
    with pytest.raises(NasError, match="twice"):
        resolve(["macs", "macs"], BUILTIN)


def test_objectives_of_the_user() -> None:
    @objective(unit="layers", goal="minimize", needs="choices")
    def depth(candidate: object) -> float:
        return 1.0

    assert depth.objective == Objective("depth", "layers", "minimize", "choices")  # type: ignore[attr-defined]
    with pytest.raises(NasError, match="goal='least'"):
        objective(unit="x", goal="least")  # type: ignore[arg-type]
    with pytest.raises(NasError, match="needs='magic'"):
        objective(unit="x", goal="minimize", needs="magic")  # type: ignore[arg-type]


def test_json_round_trip() -> None:
    assert Objective.from_json(BUILTIN["latency_ms"].to_json()) == BUILTIN["latency_ms"]


def test_a_constraint_may_name_a_device_on_another_host():
    for device in ("ssh://pi@kitchen:2222/cpu", "ssh://[fe80::1]/cpu?python=v/bin/python"):
        found = Constraint.parse(f"latency_ms.p99@{device}:b4:r64<=5")
        assert (found.device, found.batch, found.resolution) == (device, "4", 64)
        assert Constraint.parse(str(found)) == found
