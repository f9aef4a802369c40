"""What is known of a trial, against what repeats do and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_spec
from example_trials import latency, trained, trial
from hypothesis import given
from hypothesis import strategies as st

from nas.core.known import (
    measure,
    score_first,
    score_measurement,
    seed_deviation,
    values_of,
    violations_of,
)
from nas.core.objective import BUILTIN, Constraint, Objective
from nas.core.task import TaskSpec
from nas.core.trial import Rung

ACCURACY_AND_MACS = toy_spec()
TIMED = toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]))


class TestTimed:
    def test_of_another_device_says_nothing(self) -> None:
        timed = trial(0, 80.0, measurements=latency(1.0, "trained"))
        gpu = replace(TIMED, device="gpu")
        assert measure(timed, BUILTIN["latency_ms"], TIMED) is not None
        assert measure(timed, BUILTIN["latency_ms"], gpu) is None

    def test_throughput_turns_the_interval_round(self) -> None:
        timed = trial(0, 80.0, measurements=latency(2.0, "trained"))
        rate = measure(timed, BUILTIN["throughput_ips"], TIMED)
        assert rate is not None
        assert (rate.value, rate.unit) == (500.0, "images/s")
        assert (rate.low, rate.high) == pytest.approx((1000 / 2.4, 1000 / 1.8))
        assert rate.se == pytest.approx(500 * 0.1)


class TestScore:
    @given(st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=4), max_size=5))
    def test_seed_deviation_is_the_pooled_one(self, scores: list[list[float]]) -> None:
        found = seed_deviation([trial(n, *runs) for n, runs in enumerate(scores)])
        repeated = [np.array(runs) for runs in scores if len(runs) > 1]
        if not repeated:
            assert found is None
            return
        residuals = np.concatenate([runs - runs.mean() for runs in repeated])
        degrees = len(residuals) - len(repeated)
        assert found == pytest.approx(math.sqrt((residuals**2).sum() / degrees), abs=1e-9)

    @pytest.mark.parametrize("seeds", [1, 3])
    def test_nine_repeats_in_ten_fall_into_the_interval(self, seeds: int) -> None:
        rng, image_noise, seed_noise = np.random.default_rng(seeds), 1.2, 0.7
        inside, means, errors = 0, [], []
        for _ in range(4000):
            images = rng.normal(0, image_noise)  # all repeats of a study see the same images
            runs = [trained(50 + images + rng.normal(0, seed_noise), n, image_noise)
                    for n in range(seeds)]  # fmt: skip
            one = trial(0, trained=tuple(runs))
            told = score_measurement(one, ACCURACY_AND_MACS, seed_noise)
            fresh = 50 + rng.normal(0, image_noise) + rng.normal(0, seed_noise)
            inside += told.low <= fresh <= told.high
            means.append(told.value)
            errors.append(told.se)
        assert inside / 4000 == pytest.approx(0.9, abs=0.015)
        assert np.std(means) == pytest.approx(errors[0], rel=0.04)

    def test_the_record_says_whether_the_seeds_noise_was_measured(self) -> None:
        alone = score_measurement(trial(0, 80.0), ACCURACY_AND_MACS, None)
        assert alone.record == {"seeds": 1, "images": 150, "seed_deviation": "not measured"}
        assert alone.se == 1.0
        twice = score_measurement(trial(0, 80.0, 82.0), ACCURACY_AND_MACS, 0.5)
        assert (twice.value, twice.record["seed_deviation"]) == (81.0, 0.5)

    def test_a_percentage_stays_one(self) -> None:
        best = score_measurement(trial(0, 99.9), ACCURACY_AND_MACS, 1.0)
        assert best.high == 100.0
        distance = TaskSpec("m:f", (3, 8, 8), 1, score_name="mae", score_unit="px", goal="minimize")
        spec = toy_spec(task=distance, objectives=(BUILTIN["macs"],))
        assert score_measurement(trial(0, 0.1), spec, 1.0).low < 0

    def test_error_is_accuracy_turned_round(self) -> None:
        one = trial(0, 80.0)
        right = measure(one, BUILTIN["accuracy"], ACCURACY_AND_MACS)
        wrong = measure(one, BUILTIN["error"], ACCURACY_AND_MACS)
        assert right is not None and wrong is not None
        assert (wrong.value, wrong.low, wrong.high) == (20.0, 100 - right.high, 100 - right.low)


def test_a_search_reads_the_score_of_its_own_images_and_the_last_rung_before_that() -> None:
    one = trial(0, 80.0, macs=3.0)
    assert values_of(ACCURACY_AND_MACS, one) == {"accuracy": 80.5, "macs": 3.0}
    rungs = tuple(Rung(0, at, at + 1, score, 150, None) for at, score in enumerate([40.0, 60.0]))
    assert values_of(ACCURACY_AND_MACS, replace(one, trained=(), rungs=rungs))["accuracy"] == 60.0
    assert values_of(ACCURACY_AND_MACS, replace(one, trained=())) == {"macs": 3.0}


def test_limits_are_held_where_the_number_is_known_and_a_score_once_trained() -> None:
    limits = tuple(Constraint.parse(text) for text in ("macs<=2", "accuracy>=90", "latency_ms<=9"))
    spec = replace(ACCURACY_AND_MACS, constraints=limits)
    found = violations_of(spec, trial(0, 80.0, macs=3.0))
    assert found == {"macs<=2": pytest.approx(0.5), "accuracy>=90": pytest.approx(9.5 / 90)}
    assert violations_of(spec, trial(0, macs=1.0)) == {"macs<=2": pytest.approx(-0.5)}


def test_what_trainings_report_comes_before_what_else_needs_training() -> None:
    own = Objective("own", "", "minimize", "trained")
    listed = (own, BUILTIN["macs"], BUILTIN["error"])
    found = score_first(replace(ACCURACY_AND_MACS, objectives=listed))
    assert [o.name for o in found] == ["macs", "error", "own"]
    task = replace(ACCURACY_AND_MACS.task, score_name="miou")
    spec = replace(ACCURACY_AND_MACS, task=task, objectives=(own, replace(own, name="miou")))
    assert [o.name for o in score_first(spec)] == ["miou", "own"]
