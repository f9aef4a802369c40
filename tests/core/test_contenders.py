"""The band of contenders against counting who beats whom, in whatever order they come."""

from __future__ import annotations

import math

from conftest import toy_spec
from example_trials import trial
from hypothesis import given
from hypothesis import strategies as st

from nas.core.contenders import CROWD, Contenders
from nas.core.front import contending, front_of
from nas.core.pareto import dominates

number = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(number, number), max_size=30), st.integers(1, 5))
def test_those_are_in_that_fewer_than_the_crowd_dominate(
    points: list[tuple[float, float]], crowd: int
) -> None:
    band, out = Contenders(crowd), []
    for place, point in enumerate(points):
        out += band.add(place, point)
    beaten_by = [sum(dominates(other, point) for other in points) for point in points]
    kept = [place for place, count in enumerate(beaten_by) if count < crowd]
    assert band.numbers == kept
    assert sorted(out) == [place for place in range(len(points)) if place not in kept]
    assert all((place in band) == (place in kept) for place in range(len(points)))


def test_what_is_not_known_in_everything_beats_nobody_and_stays() -> None:
    band = Contenders(crowd=1)
    assert band.add(0, (math.nan, 1.0)) == band.add(1, (2.0, 2.0)) == []
    assert band.add(2, (1.0, 1.0)) == [1]
    assert band.numbers == [0, 2]


def test_a_front_of_contenders_alone_is_the_front_of_all() -> None:
    spec, every = toy_spec(), []
    for n in range(400):
        values = {"accuracy": 60.0 + 7 * (n * 37 % 400) ** 0.3, "macs": 1.0 + n * 53 % 400}
        every.append(trial(n, values["accuracy"], macs=values["macs"], values=values))
    near = contending(spec, every)
    assert CROWD < len(near) < len(every)
    whole = front_of(spec, every).to_json()
    for first in (None, every[0]):
        alone = front_of(spec, near, tally=whole["trials"], first=first)
        assert alone.to_json() == whole
