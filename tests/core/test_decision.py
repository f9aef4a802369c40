"""Decisions draw, move, repair and encode only what they allow."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.decision import Choice, Decision, Integer, Real, is_active, parents, same
from nas.core.errors import NasError

DECISIONS: list[Decision] = [
    Choice("kernel", [3, 5, 7, 13]),
    Choice("mixer", ["plain", "gated"]),
    Choice("bias", [False, True]),
    Choice("rate", [0.1, 0.5, 2.0]),
    Choice("order", [5, 1, 3]),
    Choice("one", ["only"]),
    Integer("depth", 2, 14, step=3),
    Integer("fixed", 4, 4),
    Real("dropout", -0.5, 0.5),
    Real("scale", 1e-5, 1e-1, log=True),
]


def ids(decision: Decision) -> str:
    return decision.name


@pytest.mark.parametrize("decision", DECISIONS, ids=ids)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_drawn_moved_and_repaired_is_legal(decision: Decision, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = decision.draw(rng, {})
    moved = decision.move(value, rng, {})
    assert decision.legal(value) and decision.legal(moved)
    assert decision.repair(value, {}) == value
    if decision.count > 1 and not isinstance(decision, Real):
        assert moved != value


@pytest.mark.parametrize("decision", DECISIONS, ids=ids)
@given(value=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text())
def test_repair_takes_anything(decision: Decision, value: object) -> None:
    assert decision.legal(decision.repair(value, {}))


@pytest.mark.parametrize("decision", DECISIONS, ids=ids)
def test_encoding_has_one_length_and_stays_in_the_unit_interval(decision: Decision) -> None:
    rng = np.random.default_rng(0)
    rows = [decision.encode(decision.draw(rng, {})) for _ in range(50)]
    rows.append(decision.encode(None))
    assert len({len(row) for row in rows}) == 1
    assert all(-1e-12 <= x <= 1 + 1e-12 for row in rows for x in row)


def test_encoding_keeps_the_order_of_a_scale() -> None:
    assert [Choice("k", [3, 7, 101]).encode(v) for v in (3, 7, 101)] == [[0.0], [0.5], [1.0]]
    assert Choice("m", ["a", "b"]).encode("b") == [0.0, 1.0]
    assert Integer("d", 1, 5).encode(3) == [0.5]
    assert Real("r", 1e-4, 1e-2, log=True).encode(1e-3)[0] == pytest.approx(0.5)


@given(st.floats(0, 1), st.booleans())
def test_a_real_goes_through_its_scale_and_back(share: float, log: bool) -> None:
    decision = Real("r", 0.01, 10.0, log=log)
    value = decision.low * (decision.high / decision.low) ** share if log else 0.01 + 9.99 * share
    assert decision.encode(value)[0] == pytest.approx(share, abs=1e-9)


def test_draws_are_even_on_the_scale() -> None:
    rng = np.random.default_rng(0)
    logs = [math.log10(Real("r", 1e-4, 1.0, log=True).draw(rng, {})) for _ in range(4000)]
    assert np.mean(logs) == pytest.approx(-2.0, abs=0.1)
    drawn = [Choice("k", [3, 5, 7]).draw(rng, {}) for _ in range(3000)]
    assert all(abs(drawn.count(k) - 1000) < 120 for k in (3, 5, 7))


def test_within_limits_what_is_proposed_and_not_what_is_legal() -> None:
    kernel = Choice("kernel", [3, 5, 63], within={"stride": {2: [3, 5]}})
    assert kernel.allowed({"stride": 2}) == (3, 5)
    assert kernel.allowed({"stride": 1}) == kernel.allowed({}) == (3, 5, 63)
    assert kernel.repair(63, {"stride": 2}) == 5
    assert kernel.legal(63)


def test_limits_that_leave_nothing_leave_the_first() -> None:
    kernel = Choice("kernel", [3, 5], within={"a": {1: [3]}, "b": {1: [5]}})
    assert kernel.allowed({"a": 1, "b": 1}) == (3,)


def test_a_move_on_a_long_scale_is_mostly_near() -> None:
    rng = np.random.default_rng(0)
    decision = Choice("k", list(range(1, 40, 2)))
    near = [abs(float(decision.move(21, rng, {})) - 21) <= 4 for _ in range(1000)]
    assert np.mean(near) > 0.5
    depth = Integer("d", 0, 100)
    assert all(0 < abs(depth.move(50, rng, {}) - 50) <= 20 for _ in range(200))


def test_a_bool_is_no_number() -> None:
    assert not same(True, 1) and same(2, 2.0)
    assert not Integer("d", 0, 3).legal(True)
    assert not Choice("c", [0, 1]).legal(True)


def test_conditions_look_at_active_parents_only() -> None:
    decision = Choice("dilation", [1, 2], when={"kernel": [3, 5], "mixer": ["plain"]})
    assert is_active(decision, {"kernel": 3, "mixer": "plain"})
    assert not is_active(decision, {"kernel": 7, "mixer": "plain"})
    assert not is_active(decision, {"kernel": 3})
    assert parents(decision) == {"kernel", "mixer"}
    assert parents(Choice("k", [3], within={"stride": {1: [3]}})) == {"stride"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice("c", []),
        lambda: Choice("c", [1, 1]),
        lambda: Integer("i", 3, 1),
        lambda: Integer("i", 0, 10, step=3),
        lambda: Integer("i", 0, 10, step=0),
        lambda: Real("r", 1.0, 1.0),
        lambda: Real("r", 0.0, 1.0, log=True),
        lambda: Real("r", float("nan"), 1.0),
    ],
)
def test_impossible_ranges_are_refused(make: object) -> None:
    with pytest.raises(NasError):
        make()  # type: ignore[operator]
