from dataclasses import asdict

import numpy as np
import pytest

from nas.hardware.agent.estimates import bootstrap, estimate
from nas.hardware.protocol import Protocol

RULES = asdict(Protocol())


def test_the_gate_drops_what_was_taken_beside_a_slow_reference():
    quiet, busy = np.full(60, 100.0), np.full(40, 250.0)
    samples = np.concatenate([quiet, busy])
    refs = np.concatenate([np.full(60, 50.0), np.full(40, 90.0)])
    passes = np.arange(100) // 10
    found = estimate(samples, refs, passes, np.zeros(100), 50.0, RULES)
    assert (found["value"], found["kept"], found["n"], found["noisy"]) == (100.0, 60, 100, False)
    assert found["p99"] == 100.0


def test_where_it_is_never_quiet_the_quietest_fifth_is_kept_and_flagged():
    rng = np.random.default_rng(0)
    refs = rng.uniform(200, 400, 200)
    found = estimate(refs * 2, refs, np.arange(200) // 20, np.zeros(200), 50.0, RULES)
    assert found["noisy"] and found["kept"] == 40
    assert found["value"] < np.quantile(refs * 2, 0.2)


def test_an_interrupted_call_does_not_count():
    away = np.where(np.arange(100) % 2, 3000.0, 0.0)
    passes, refs = np.arange(100) // 10, np.full(100, 50.0)
    found = estimate(100.0 + away, refs, passes, away, 50.0, RULES)
    assert (found["p99"], found["kept"], found["noisy"]) == (100.0, 50, False)


def test_where_every_call_is_interrupted_the_interruptions_are_taken_off_and_it_is_flagged():
    rng = np.random.default_rng(0)
    away = rng.uniform(3000.0, 9000.0, 100)
    passes, refs = np.arange(100) // 10, np.full(100, 50.0)
    found = estimate(8000.0 + away, refs, passes, away, 50.0, RULES)
    assert found["noisy"] and found["value"] == pytest.approx(8000.0)


def test_the_bootstrap_agrees_with_drawing_passes_by_hand():
    rng = np.random.default_rng(1)
    passes = np.repeat(np.arange(12), 15)
    level = rng.normal(100, 5, 12)
    samples = level[passes] + rng.normal(0, 1, 180)
    fast = bootstrap(samples, passes, 0.25, seed=0, rounds=4000)
    by_pass = [samples[passes == p] for p in range(12)]
    slow = [
        np.quantile(
            np.concatenate([by_pass[i] for i in rng.integers(12, size=12)]),
            0.25,
            method="inverted_cdf",
        )
        for _ in range(4000)
    ]
    assert fast.mean() == pytest.approx(np.mean(slow), rel=0.005)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.1)


def test_the_numbers_of_an_estimate_are_those_of_the_kept_samples():
    rng = np.random.default_rng(2)
    samples, passes = rng.normal(100, 5, 120), np.arange(120) // 10
    found = estimate(samples, np.full(120, 50.0), passes, np.zeros(120), 50.0, RULES)
    draws = bootstrap(samples, passes, 0.25, seed=0)
    assert len(draws) == 200
    assert found["value"] == pytest.approx(np.quantile(samples, 0.25))
    assert found["se"] == pytest.approx(draws.std())
    half = (np.quantile(draws, 0.95) - np.quantile(draws, 0.05)) / 2
    assert found["width"] == pytest.approx(half / found["value"])
    told = [found[name] for name in ("p50", "p90", "p95", "p99")]
    assert told == pytest.approx(np.quantile(samples, [0.5, 0.9, 0.95, 0.99]).tolist())
    assert (found["passes"], found["quiet"], found["kept"]) == (12, 1.0, 120)
