from pathlib import Path

import numpy as np
import pytest
from made_up_sessions import made_up, numbered, runs_of

from nas.core.job import Workload
from nas.hardware import runs
from nas.hardware.anchors import WIDE
from nas.hardware.history import AnchorHistory
from nas.hardware.interval import between
from nas.hardware.protocol import Protocol
from nas.hardware.runs import Run, summary
from nas.hardware.session import Asked
from nas.hardware.timing import _measurement


def test_the_wide_anchor_is_compared_with_nothing():
    session = made_up({0: 1000.0, "dense": 80.0, WIDE: 500.0}, trend=0.0)
    session.results[WIDE]["samples"] = np.linspace(300, 900, 200).tolist()
    found = summary(session, Protocol())
    assert set(found.estimates) == {0, "dense"} and found.drift < 0.05
    assert found.wide_us is not None and 300 < found.wide_us < 900


def test_a_drifting_anchor_is_seen_and_the_session_repeated(monkeypatch, cpu, lease, files):
    asked = Asked((files["small"],), (), cpu, lease, Workload(), Protocol(), 0)
    trends = iter([0.3, 0.0])
    monkeypatch.setattr(
        runs, "sessions",
        lambda *a: ([made_up({0: 100.0, "dense": 80.0}, trend=next(trends))], {}),
    )  # fmt: skip
    (found,), reasons = runs.run(asked, [0], 0)
    assert isinstance(found, Run) and found.repeated and found.drift < 0.05 and not reasons
    steady = iter([0.0])
    monkeypatch.setattr(
        runs, "sessions",
        lambda *a: ([made_up({0: 100.0, "dense": 80.0}, trend=next(steady))], {}),
    )  # fmt: skip
    (found,), _ = runs.run(asked, [0], 0)
    assert not found.repeated


def test_of_two_sessions_that_drifted_the_calmer_counts(monkeypatch, cpu, lease, files):
    asked = Asked((files["small"],), (), cpu, lease, Workload(), Protocol(), 0)

    def measured(*shares, trend=0.3):
        left = iter(shares)
        names = {0: 100.0, "dense": 80.0}
        monkeypatch.setattr(
            runs, "sessions",
            lambda *a: ([made_up(names, interrupted=next(left), trend=trend)], {}),
        )  # fmt: skip
        (found,), _ = runs.run(asked, [0], 0)
        return round(found.quiet, 2), found.repeated

    assert measured(0.5, trend=0.0) == (0.5, False)
    assert measured(0.9, 0.1) == (0.9, True)
    assert measured(0.9, 0.95) == (0.1, False)


def test_files_whose_calls_jump_are_timed_once_more_and_what_still_does_has_not_converged(
    monkeypatch, cpu, lease, files
):
    asked = Asked((files["small"],) * 3, (), cpu, lease, Workload(), Protocol(), 0)
    jumps, seen = iter([(0, 2), (2,)]), []

    def stand_in(asked, alive, seed):
        seen.append(alive)
        names = dict.fromkeys(alive, 100.0) | {"dense": 80.0}
        return [made_up(names, jumpy=next(jumps), seed=seed)], {}

    monkeypatch.setattr(runs, "sessions", stand_in)
    found, reasons = runs.run(asked, [0, 1, 2], 0)
    assert seen == [[0, 1, 2], [0, 2]] and not reasons
    assert [(r.files, r.repeated) for r in found] == [([1], False), ([0, 2], True)]
    spread = between(found, AnchorHistory(Path("nowhere"), "x"), Protocol(), 1)
    assert spread == (0.03, "assumed"), "two sessions of different files measure no spread"
    records = [_measurement(i, found, spread, {}, Protocol(), "x").record for i in range(3)]
    assert [r["converged"] for r in records] == [True, True, False]
    assert records[2]["unsettled"] == ["one call in twenty took 3.0 times the middle one"]
    assert records[2]["p95_ms"] == pytest.approx(0.3, rel=0.02)
    assert [r["sessions"][0]["repeated"] for r in records] == [True, False, True]


def test_a_noisy_session_is_not_repeated_for_its_jumps(monkeypatch, cpu, lease, files):
    asked = Asked((files["small"],), (), cpu, lease, Workload(), Protocol(), 0)
    (once,) = [made_up({0: 100.0, "dense": 80.0}, interrupted=1.0, jumpy=(0,))]
    answers = iter([once])
    monkeypatch.setattr(runs, "sessions", lambda *a: ([next(answers)], {}))
    (found,), _ = runs.run(asked, [0], 0)
    assert found.estimates[0]["noisy"] and not numbered([found]).record["converged"]


def test_a_file_that_failed_before_the_repeat_keeps_its_reason(monkeypatch, cpu, lease, files):
    asked = Asked((files["small"],) * 2, (), cpu, lease, Workload(), Protocol(), 0)
    answers = iter([(0.3, {1: "hung"}), (0.0, {})])
    seen = []

    def stand_in(asked, alive, seed):
        trend, reasons = next(answers)
        seen.append(alive)
        return [made_up({0: 100.0, "dense": 80.0}, trend=trend)], reasons

    monkeypatch.setattr(runs, "sessions", stand_in)
    _, reasons = runs.run(asked, [0, 1], 0)
    assert seen == [[0, 1], [0]] and reasons == {1: "hung"}


def test_a_single_pass_has_no_drift():
    (run,) = runs_of([1000.0], passes=1)
    assert run.drift == 0.0
