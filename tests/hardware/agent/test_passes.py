"""How often networks are called, and until when, on a clock that only calls move."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

from nas.hardware.agent import passes
from nas.hardware.agent.passes import Network, run_passes, warmed
from nas.hardware.agent.watch import Watch

RULES = {
    "warm_s": 0.01, "warm_cap_s": 0.1, "visit_s": 0.004, "group_s": 0.001, "settle_s": 0.0,
    "seconds": 100.0,
    "min_passes": 3, "max_passes": 9, "width": 0.02, "gate": 1.25, "away": 0.01,
    "quietest": 0.2, "quantile": 0.25,
}  # fmt: skip


class Clock:
    """Seconds of the wall and of this process, as calls spend them."""

    def __init__(self) -> None:
        self.wall, self.own = 100.0, 0.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time_ns(self) -> int:
        return round(self.own * 1e9)


class Engine:
    """A network whose calls take so many microseconds; some, another process had the core."""

    def __init__(self, clock: Clock, took: Iterator[float], away: float = 0.0) -> None:
        self.clock, self.took, self.away, self.calls = clock, took, away, 0

    def call(self) -> float:
        took = next(self.took)
        if took < 0:
            raise RuntimeError("it broke")
        self.calls += 1
        self.clock.wall += took / 1e6
        self.clock.own += (took - self.away) / 1e6
        return took


class Quiet:
    """A reference that takes what it is told to, in microseconds; then always 50."""

    base = 50.0

    def __init__(self, *told: float) -> None:
        self.told = chain(told, repeat(50.0))

    def run(self) -> float:
        return next(self.told)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(passes, "time", made)
    return made


def network(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, *took: float, index: int = 0, **more: Any
) -> Network:
    """A network of these calls, the last of which goes on for ever."""
    engine = Engine(clock, chain(took, repeat(took[-1])), more.pop("away", 0.0))

    def load(path: str, job: dict[str, Any]) -> Engine:
        clock.wall += 0.25
        return engine

    monkeypatch.setattr(passes, "load", load)
    return Network(index, "file", more, Watch(9.0))


def test_the_first_call_is_kept_apart_and_what_others_took_is_known_of_a_processor_alone(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = network(clock, monkeypatch, 4000.0, 100.0, away=30.0)
    assert (one.first_ms, one.samples, one.done) == (4.0, [], False)
    assert one.load_s == pytest.approx(0.25)
    assert one.watched() == (100.0, pytest.approx(30.0))
    assert one.call() == 100.0
    several = network(clock, monkeypatch, 100.0, away=-30.0)  # more than one core was at work
    assert several.watched() == (100.0, 0.0)
    assert network(clock, monkeypatch, 100.0, away=30.0, kind="cuda").watched() == (100.0, 0.0)


def test_it_is_warm_where_two_windows_agree(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    # Windows of six of 900, 800, 790 us: after the third, 14.94 ms, the last two agree.
    took = [1000.0, *[900.0] * 6, *[800.0] * 6, *[790.0] * 6, *[500.0] * 99]
    one = network(clock, monkeypatch, *took)
    one.warm_up(0.01, 1.0)
    assert (one.typical, one.engine.calls) == (790.0, 1 + 18)
    one = network(clock, monkeypatch, *took, away=100.0)  # what others took is left out
    one.warm_up(0.01, 1.0)
    assert one.typical == pytest.approx(690.0)


def test_it_is_warm_neither_before_the_least_time_nor_after_the_most(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = network(clock, monkeypatch, 1000.0)
    steady.warm_up(0.02, 1.0)
    assert steady.engine.calls == 1 + 24
    restless = network(clock, monkeypatch, *[1000.0 * 1.01**n for n in range(400)])
    restless.warm_up(0.0, 0.05)
    assert restless.engine.calls == 1 + 42  # of those 36 take 43.5 ms, 42 take 52.4
    long = network(clock, monkeypatch, 40_000.0)  # six of them would outlast 90 ms
    long.warm_up(0.01, 0.09)
    assert long.engine.calls == 1 + 4
    longer = network(clock, monkeypatch, 200_000.0)
    longer.warm_up(0.01, 0.09)
    assert longer.engine.calls == 1 + 1


def test_a_visit_calls_in_groups_with_a_reference_before_and_after_each(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = network(clock, monkeypatch, 250.0, away=5.0)
    one.typical = 250.0
    one.visit(7, Quiet(50.0, 60.0, 55.0, 70.0), visit_s=0.003, group_s=0.001, settle_s=0.0)
    assert one.samples == [250.0] * 12 and one.passes == [7] * 12
    assert one.refs == [60.0] * 8 + [70.0] * 4
    assert one.away == pytest.approx([5.0] * 12)


@pytest.mark.parametrize(
    ("typical", "calls"), [(1.0, 16 * 8), (100.0, 10 * 4), (900.0, 1 * 4), (50_000.0, 1)]
)
def test_a_visit_is_neither_endless_nor_empty(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, typical: float, calls: int
) -> None:
    one = network(clock, monkeypatch, typical)
    one.typical = typical
    one.visit(0, Quiet(), visit_s=0.004, group_s=0.001, settle_s=0.0)
    assert len(one.samples) == len(one.refs) == len(one.passes) == len(one.away) == calls


@pytest.mark.parametrize(("typical", "settling"), [(1.0, 6), (1500.0, 2), (50_000.0, 1)])
def test_calls_on_caches_of_the_network_before_are_no_samples(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, typical: float, settling: int
) -> None:
    cold = [5 * typical] * settling
    one = network(clock, monkeypatch, typical, *cold, typical)
    one.typical = typical
    one.visit(0, Quiet(), visit_s=0.004, group_s=0.001, settle_s=0.003)
    assert set(one.samples) == {typical}
    assert one.engine.calls == 1 + settling + len(one.samples)


def said(text: str) -> list[tuple[str, int]]:
    return [(line["event"], line["file"]) for line in map(json.loads, text.splitlines())]


def several(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, *calls: Iterator[float], anchors: int = 0,
    **rules: float,
) -> tuple[list[Network], dict[str, Any]]:  # fmt: skip
    engines = iter([Engine(clock, took) for took in calls])
    monkeypatch.setattr(passes, "load", lambda path, job: next(engines))
    files, count = [f"{i}" for i in range(len(calls))], len(calls) - anchors
    job = {"files": files[:count], "anchors": files[count:], "seed": 0, "protocol": RULES | rules}
    return warmed(job, Watch(9.0)), job


def noisy(start: float) -> Iterator[float]:
    """Calls that are never twice alike: no interval of theirs is narrow."""
    return (start * (1 + (n * 7919 % 101) / 100) for n in range(10**6))


def test_what_cannot_be_loaded_is_reported_and_left_out(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = several(clock, monkeypatch, repeat(100.0), repeat(-1.0), repeat(200.0), anchors=1)
    assert [(n.index, n.typical) for n in found] == [(0, 100.0), (2, 200.0)]
    assert said(capsys.readouterr().out) == [
        ("loading", 0), ("loaded", 0), ("loading", 1), ("failed", 1), ("loading", 2), ("loaded", 2),
    ]  # fmt: skip


def test_a_network_rests_when_it_is_known_and_anchors_stay_to_the_end(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, job = several(
        clock, monkeypatch, repeat(100.0), noisy(100.0), repeat(300.0), anchors=1, width=1e-6
    )
    assert run_passes(found, job, Quiet()) == found
    assert [len(set(n.passes)) for n in found] == [3, 9, 9]
    assert [n.done for n in found] == [True, False, True]


def test_passes_end_when_all_are_known_but_not_before_the_least_number(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, job = several(clock, monkeypatch, repeat(100.0), repeat(200.0), min_passes=4)
    run_passes(found, job, Quiet())
    assert [len(set(n.passes)) for n in found] == [4, 4]
    slow, job = several(clock, monkeypatch, repeat(100.0))
    run_passes(slow, job, Quiet(*[500.0] * 10**4))  # never quiet beside it: never sure
    assert [len(set(n.passes)) for n in slow] == [9]


def test_the_time_of_all_networks_is_shared_and_three_passes_are_made_at_least(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pass over both takes about 8 ms; they have 2 x 20 ms, or none at all.
    found, job = several(
        clock, monkeypatch, noisy(100.0), noisy(100.0), width=1e-6, seconds=0.02, max_passes=60
    )
    before = clock.wall
    run_passes(found, job, Quiet())
    assert 0.04 < clock.wall - before < 0.06
    found, job = several(clock, monkeypatch, noisy(100.0), width=1e-6, seconds=0.0)
    run_passes(found, job, Quiet())
    assert set(found[0].passes) == {0, 1, 2}


def test_one_that_fails_in_the_middle_is_left_out_and_the_others_go_on(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks = chain(repeat(100.0, 200), repeat(-1.0))
    found, job = several(clock, monkeypatch, repeat(150.0), breaks, repeat(100.0), anchors=1)
    capsys.readouterr()
    left = run_passes(found, job, Quiet())
    assert [n.index for n in left] == [0, 2] and all(n.done for n in left)
    assert said(capsys.readouterr().out) == [("failed", 1)]


def test_networks_are_visited_in_an_order_that_is_drawn_anew(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    found, job = several(clock, monkeypatch, *[noisy(100.0)] * 4, width=1e-6)
    for one in found:
        stand_in = SimpleNamespace(index=one.index, visit=one.visit)

        def visit(*given: Any, of: Any = stand_in) -> None:
            seen.append(of.index)
            of.visit(*given)

        monkeypatch.setattr(one, "visit", visit)
    run_passes(found, job, Quiet())
    rounds = [tuple(seen[i : i + 4]) for i in range(0, len(seen), 4)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)
    assert len(set(rounds)) > 3
