from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from example_page import findings
from example_study import trials

from nas.core.trial import Rung
from nas.report.history import Spending, budget, curve, working_seconds

START = datetime(2026, 11, 21, tzinfo=UTC)


def test_hypervolume_only_grows_and_ends_at_the_fronts() -> None:
    found = findings()
    front = found.fronts["cpu"]
    points = curve(found.spec, found.trials, front, found.events, found.moments)
    volumes = [p.hypervolume for p in points]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(front.hypervolume)
    assert [p.evaluations for p in points] == list(range(1, 39))
    assert points[-1].seconds == pytest.approx(9 * (len(found.events) - 2))
    assert volumes[0] < volumes[1] < volumes[2]  # the first three are on the front


def test_a_trial_told_twice_counts_once() -> None:
    found = findings()
    events = [*found.events, found.events[-2]]
    moments = [*found.moments, found.moments[-1]]
    points = curve(found.spec, found.trials, found.fronts["cpu"], events, moments)
    assert len(points) == 38


def test_slow_events_are_no_pause() -> None:
    hours = [START + timedelta(hours=i) for i in range(6)]
    assert working_seconds(hours)[-1] == 5 * 3600
    assert working_seconds([]) == []
    assert working_seconds([START]) == [0.0]


def test_the_budget_adds_up_and_reused_epochs_are_no_cost() -> None:
    made = trials()
    rows = {row.name: row for row in budget(made)}
    assert rows["trained"] == Spending("trained", 36, 36 * 9)
    assert rows["infeasible"].trials == rows["failed"].trials == rows["running"].trials == 1
    assert sum(row.trials for row in rows.values()) == len(made)
    again = replace(made[0], rungs=(*made[0].rungs, Rung(1, 0, 1, 80.0, 9, "c"),
                                    Rung(1, 1, 9, 88.0, 9, "d")))  # fmt: skip
    known = replace(made[1], rungs=(replace(made[1].rungs[0], reused=True), made[1].rungs[1]))
    twin = replace(made[2], reused="trial 1")
    rows = {row.name: row for row in budget([again, known, twin])}
    assert rows["confirming"] == Spending("confirming", 0, 9)
    assert rows["trained"] == Spending("trained", 2, 9 + 8)
    assert rows["reused"] == Spending("reused", 1, 0)
