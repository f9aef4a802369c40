import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_up_sessions import made_up, numbered, runs_of

from nas.core.measurement import Z90
from nas.hardware.anchors import WIDE
from nas.hardware.history import AnchorHistory
from nas.hardware.interval import between, learnt, reached, rescaled, taken
from nas.hardware.protocol import Protocol
from nas.hardware.repeats import Repeats
from nas.hardware.runs import summary
from nas.hardware.timing import _measurement


def test_the_interval_has_both_terms():
    (run,) = runs_of([1000.0])
    found = numbered([run])
    within = run.estimates[0]["se"] / run.estimates[0]["value"]
    slack = run.estimates[0]["p50"] / run.estimates[0]["value"] - 1
    assert found.se / found.value == pytest.approx(np.linalg.norm([within, 0.03, slack]), rel=1e-6)
    assert found.high - found.value == pytest.approx(Z90 * 2**0.5 * found.se, rel=1e-6)
    assert found.value == pytest.approx(1.0, rel=0.01)


def test_processes_behind_each_other_share_what_slows_the_machine():
    """Nobody else can be told from the network by more of the same."""
    rules, shares = Protocol(), []
    for latencies in ([1000.0], [1000.0] * 3):
        runs = runs_of(latencies, interrupted=1.0)
        assert all(r.estimates[0]["quiet"] == 0.0 for r in runs)
        found = numbered(runs)
        assert not found.record["converged"]
        shares.append(found.se / found.value)
    assert min(shares) > rules.contention and shares[1] < shares[0]


def test_what_neighbours_take_of_the_shared_cache_is_learnt_between_measurements(tmp_path):
    rules, history = Protocol(), AnchorHistory(tmp_path, "x")
    runs = [dataclasses.replace(r, wide_us=us) for r, us in zip(
        runs_of([1000.0, 1000.0, 1000.0]), (900.0, 1000.0, 1400.0), strict=True)]  # fmt: skip
    assert taken(runs, history, rules) == pytest.approx(rules.caches)  # of 1 ms, assumed
    for us in (1200.0, 1400.0):
        history.add({WIDE: us})
    # the mean of 1000, 1000, 1200 and 1400 is 1150
    squares = 2 * 150**2 + 50**2 + 250**2 + 2 * (rules.caches * 1150) ** 2
    assert taken(runs, history, rules) == pytest.approx((squares / 5) ** 0.5 / 1e3)
    assert taken(runs_of([1000.0]), history, rules) == 0.0  # none was timed
    found = [reached(mb, rules) for mb in (0.1, 2.0, 3.5, 5.0, 99.0)]
    assert found == [rules.reach * share for share in (0.0, 0.0, 0.5, 1.0, 1.0)]
    (run,) = runs_of([1000.0])
    plain = _measurement(0, [run], (0.03, "assumed"), {}, rules, "x")
    doubted = _measurement(0, [run], (0.03, "assumed"), {}, rules, "x", 0.2)
    assert doubted.value == plain.value and doubted.record["caches"] == pytest.approx(0.2, rel=0.01)
    assert doubted.se == pytest.approx((plain.se**2 + 0.2**2) ** 0.5)


def test_intervals_are_as_wide_as_repeats_on_this_host_say(tmp_path, monkeypatch):
    """Files measured a minute apart that differ by a tenth of what was stated."""
    stated = numbered(runs_of([1000.0]))
    scales, repeats = [], Repeats(tmp_path, "x")
    for i in range(6):
        monkeypatch.setattr("nas.hardware.repeats.time.time", lambda i=i: 1e9 + 60 * i)
        again = dataclasses.replace(stated, value=stated.value * (1 + 0.1 * (i % 2) * stated.se))
        scales.append(learnt(repeats, {"file": again}))
    assert scales == sorted(scales, reverse=True) and scales[0] == 1.0
    assert scales[-1] == pytest.approx((2 / 7) ** 0.5, rel=0.01)
    found = rescaled(stated, scales[-1])
    assert found.value == stated.value and found.se == pytest.approx(scales[-1] * stated.se)
    assert found.high - found.low == pytest.approx(scales[-1] * (stated.high - stated.low))
    assert found.record == {**stated.record, "repeats": round(scales[-1], 3)}


def test_a_host_that_keeps_nothing_still_measures(tmp_path):
    nowhere = Repeats(tmp_path / "none", "x")
    assert learnt(nowhere, {"file": numbered(runs_of([1000.0]))}) == 1.0


def test_the_spread_between_processes_is_learnt_from_files_and_anchors():
    rng = np.random.default_rng(5)
    none = AnchorHistory(Path("nowhere"), "x")
    calm, wild = (
        between(runs_of(1000 * np.exp(rng.normal(0, s, 12))), none, Protocol(), 1)
        for s in (0.002, 0.2)
    )
    assert calm[1] == wild[1] == "measured"
    assert calm[0] < 0.012 and wild[0] > 0.08
    assert between(runs_of([1000.0]), none, Protocol(), 4) == (0.08, "assumed")


def test_sessions_that_share_the_files_measure_no_spread_between_processes():
    rules, none = Protocol(), AnchorHistory(Path("nowhere"), "x")
    runs = [summary(made_up({i: 1000.0, "dense": 80.0}, seed=i), rules) for i in range(2)]
    assert between(runs, none, rules, 1) == (0.03, "assumed")


def test_one_process_learns_from_the_anchors_of_earlier_sessions(tmp_path):
    history = AnchorHistory(tmp_path, "x")
    rng = np.random.default_rng(3)
    for _ in range(40):
        history.add({"dense": 80 * np.exp(rng.normal(0, 0.01)), "depthwise": 60.0})
    found, known = between(runs_of([1000.0]), history, Protocol(), 1)
    assert known == "history"
    # 39 deviations of 1 %, 39 of none, two assumed of 3 %
    assert found == pytest.approx(((39 * 1e-4 + 2 * 9e-4) / 80) ** 0.5, rel=0.15)


def test_the_intervals_hold_for_nine_repeats_of_ten():
    rng = np.random.default_rng(7)
    held = []
    for _ in range(300):
        # between processes as assumed, so the stated interval must be right
        first, second = runs_of(1000 * np.exp(rng.normal(0, 0.03, 2)), passes=8)
        found, repeat = numbered([first]), numbered([second])
        held.append(found.low <= repeat.value <= found.high)
    assert 0.85 <= np.mean(held) <= 0.95


def test_drift_that_stays_is_not_converged():
    runs = runs_of([1000.0], trend=0.3)
    assert runs[0].drift > 0.05
    assert not numbered(runs).record["converged"]
    assert numbered(runs_of([1000.0])).record["converged"]


def test_interruptions_widen_the_interval_and_where_nearly_all_are_it_has_not_converged():
    calm, half, always = (numbered(runs_of([1000.0], interrupted=s)) for s in (0.0, 0.5, 1.0))
    rules = Protocol()
    for found in (calm, half, always):
        slack = found.record["p50_ms"] / found.value - 1
        terms = (
            found.record["within"],
            0.03,
            rules.contention * (1 - found.record["quiet"]) ** 3,
            slack,
        )
        assert found.se / found.value == pytest.approx(np.linalg.norm(terms), rel=1e-3)
        assert found.value == pytest.approx(1.0, rel=0.01)
    assert [f.record["quiet"] for f in (calm, half, always)] == [1.0, 0.5, 0.0]
    assert [f.record["noisy"] for f in (calm, half, always)] == [False, False, True]
    assert calm.record["converged"] and not always.record["converged"]
