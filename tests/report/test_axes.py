from __future__ import annotations

import numpy as np
import pytest
from example_study import front, study
from hypothesis import given
from hypothesis import strategies as st

from nas.core.objective import BUILTIN
from nas.core.pareto import non_dominated
from nas.report.axes import Axis, axis, pairs, place_labels, staircase

LATENCY, ACCURACY = BUILTIN["latency_ms"], BUILTIN["accuracy"]


def rows(*pairs: tuple[float, float]) -> list[dict[str, object]]:
    made = front([{"latency_ms": pair} for pair in pairs])
    return [dict(m.measurements) for m in made.members]


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9), st.floats(0.001, 0.4))
def test_the_front_and_its_intervals_are_shown(values: list[float], doubt: float) -> None:
    made = axis(LATENCY, rows(*((v, v * doubt) for v in values)))
    for value in values:
        assert made.shows(value)
        assert 0 <= made.at(value) <= 1
    reach = max(values) - min(values)
    if not made.log and max(values) * doubt <= reach / 2:
        assert made.high >= max(values) * (1 + doubt)


def test_over_a_decade_the_axis_is_logarithmic() -> None:
    assert axis(LATENCY, rows((0.1, 0.01), (2.0, 0.1))).log
    assert not axis(LATENCY, rows((1.0, 0.01), (2.0, 0.1))).log
    percent = [{"accuracy": m.measurements["accuracy"]} for m in front(
        [{"accuracy": (1.0, 0.5)}, {"accuracy": (99.0, 0.5)}]).members]  # fmt: skip
    made = axis(ACCURACY, percent)
    assert not made.log
    assert made.high == 100.5


def test_far_worse_trials_do_not_press_the_front_against_the_border() -> None:
    members, others = rows((1.0, 0.1), (2.0, 0.1)), rows((3.0, 0.1), (9.0, 0.1))
    made = axis(LATENCY, members, others)
    assert made.shows(3.0)
    assert not made.shows(9.0)


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e5), st.booleans())
def test_ticks_are_few_round_and_inside(low: float, ratio: float, log: bool) -> None:
    made = Axis("x", "ms", "minimize", low, low * ratio, log)
    values = [v for v, _ in made.ticks]
    assert 2 <= len(values) <= 8
    slack = 1e-9 * made.high
    assert all(made.low - slack <= v <= made.high + slack for v in values)
    assert values == sorted(set(values))


def test_labels_say_unit_and_direction() -> None:
    assert Axis("latency_ms", "ms", "minimize", 0, 1, False).label == (
        "latency (ms), lower is better"
    )
    assert Axis("params", "parameters", "minimize", 0, 1, False).label == "params, lower is better"
    assert Axis("size_mb", "10^6 bytes", "minimize", 0, 1, False).label == (
        "size (MB), lower is better"
    )


def test_the_first_objective_is_drawn_against_each_other_one() -> None:
    _, _, three = study("accuracy", "latency_ms", "params")
    assert [(x.name, y.name) for x, y in pairs(three)] == [
        ("latency_ms", "accuracy"), ("params", "accuracy"),
    ]  # fmt: skip
    _, _, one = study("accuracy")
    assert [(x.name, y.name) for x, y in pairs(one)] == [("accuracy", "accuracy")]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9))
def test_a_staircase_borders_what_the_points_dominate(points: list[tuple[int, int]]) -> None:
    x, y = (Axis(n, "", "minimize", -1, 10, False) for n in "xy")
    kept = {p for p, on in zip(points, non_dominated(points), strict=True) if on}
    path = staircase(points, x, y)
    assert kept <= set(path)
    assert set(points) - kept <= {p for p in points if not non_dominated([*kept, p])[-1]}
    assert [p[0] for p in path] == sorted(p[0] for p in path)
    assert [p[1] for p in path] == sorted((p[1] for p in path), reverse=True)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_labels_stay_inside_and_apart(count: int) -> None:
    rng = np.random.default_rng(count)
    points = [(float(a), float(b)) for a, b in rng.uniform([0, 0], [600, 400], (count, 2))]
    centres = place_labels(points, (14, 12), [], (600, 400))
    assert all(7 <= x <= 593 and 6 <= y <= 394 for x, y in centres)
    for i, (ax, ay) in enumerate(centres):
        assert all(abs(ax - bx) >= 14 or abs(ay - by) >= 12 for bx, by in centres[:i])
