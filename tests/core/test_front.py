"""The front against brute force, and its intervals against what repeats do."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import toy_spec
from hypothesis import given
from hypothesis import strategies as st

from nas.core.architecture import Architecture
from nas.core.front import front_of, measure, score_measurement, seed_deviation, unique
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN
from nas.core.task import TaskSpec
from nas.core.trial import Trained, Trial

ACCURACY_AND_MACS = toy_spec()
TIMED = toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]))


def trained(score: float, repeat: int = 0, se: float = 1.0) -> Trained:
    return Trained(repeat, f"{repeat}.onnx", score + 0.5, se, 300, score, se, 150)


def trial(number: int, *scores: float, macs: float = 1.0, **fields: Any) -> Trial:
    runs = tuple(trained(score, repeat) for repeat, score in enumerate(scores))
    given = {"state": "complete", "trained": runs, "costs": {"macs": macs}}
    return Trial(number, Architecture("toy", {"n": number}), **{**given, **fields})


def latency(value: float, form: str) -> dict[str, Measurement]:
    low, high, se = 0.9 * value, 1.2 * value, 0.1 * value
    basis = "trained file" if form == "trained" else "untrained form"
    taken = Measurement("latency_ms", value, "ms", low, high, se, 40, "measured", basis)
    return {f"latency_ms@cpu:b1/{form}": taken}


points = st.lists(
    st.tuples(st.integers(0, 12).map(float), st.integers(1, 12).map(float)), max_size=14
)


@given(points)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    front = front_of(ACCURACY_AND_MACS, [trial(n, a, macs=m) for n, (a, m) in enumerate(points)])
    expected = {
        n
        for n, (a, m) in enumerate(points)
        if not any((b >= a and k <= m) and (b > a or k < m) for b, k in points)
    }
    assert {m.trial for m in front.members} == expected
    macs = [m.measurements["macs"].value for m in front.members]
    assert macs == sorted(macs)
    assert front.trials["complete"] == len(points)
    assert all(0 <= m.membership <= 1 for m in front.members)


@given(points.filter(bool))
def test_hypervolume_by_counting_slices(points: list[tuple[float, float]]) -> None:
    front = front_of(ACCURACY_AND_MACS, [trial(n, a, macs=m) for n, (a, m) in enumerate(points)])
    worst_accuracy, worst_macs = front.reference
    edges = sorted({m for _, m in points} | {worst_macs})
    volume = sum(
        (right - left) * (max(a for a, m in points if m <= left) - worst_accuracy)
        for left, right in pairwise(edges)
    )
    assert front.hypervolume == pytest.approx(volume, rel=1e-12)


def test_the_reference_lies_a_tenth_of_the_range_beyond_the_worst() -> None:
    front = front_of(ACCURACY_AND_MACS, [trial(0, 90.0, macs=10.0), trial(1, 80.0, macs=5.0)])
    assert front.reference == pytest.approx((79.0, 10.5))


def test_only_complete_feasible_trials_with_every_number() -> None:
    good = trial(0, 80.0)
    others = [
        trial(1, 99.0, state="stopped"),
        trial(2, 99.0, state="failed"),
        trial(3, 99.0, violations={"macs<=1": 0.5}),
        trial(4, 99.0, costs={}),
        trial(5),
    ]
    front = front_of(ACCURACY_AND_MACS, [good, *others])
    assert [m.trial for m in front.members] == [0]
    assert front.trials == {
        "complete": 4, "stopped": 1, "infeasible": 0, "failed": 1, "running": 0,
    }  # fmt: skip


def test_a_network_proposed_twice_is_one_point() -> None:
    first = trial(0, 80.0)
    again = replace(first, number=7)
    assert unique([first, again]) == [first]


def test_nothing_yet() -> None:
    front = front_of(ACCURACY_AND_MACS, [])
    assert (front.members, front.hypervolume) == ((), 0.0)
    assert json.loads(json.dumps(front.to_json()))["front"] == []


def test_who_may_belong_though_another_looks_better_is_named() -> None:
    near, far = trial(1, 79.8, macs=1.1), trial(2, 60.0, macs=2.0)
    front = front_of(ACCURACY_AND_MACS, [trial(0, 80.0), near, far])
    assert [m.trial for m in front.members] == [0]
    assert [m.trial for m in front.others] == [1]
    assert 0.3 < front.others[0].membership < 0.5
    document = front.to_json()
    assert [row["verdict"] for row in document["front"]] == ["certain"]
    assert [row["trial"] for row in document["possible"]] == [1]


def test_counted_numbers_belong_for_certain() -> None:
    spec = toy_spec(objectives=(BUILTIN["params"], BUILTIN["macs"]))
    trials = [trial(n, costs={"params": 4.0 - n, "macs": n + 1.0}) for n in range(4)]
    assert [m.membership for m in front_of(spec, trials).members] == [1.0] * 4


class TestLatency:
    def test_once_trained_files_are_timed_only_they_count(self) -> None:
        early = [trial(n, 80.0 + n, measurements=latency(1.0 + n, "untrained")) for n in (0, 1)]
        assert len(front_of(TIMED, early).members) == 2
        final = replace(early[0], measurements=early[0].measurements | latency(1.1, "trained"))
        (member,) = front_of(TIMED, [final, early[1]]).members
        assert member.measurements["latency_ms"].value == 1.1
        assert member.measurements["latency_ms"].basis == "trained file"

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

    def test_what_predictions_share_leaves_their_order_as_it_is(self) -> None:
        def predicted(value: float, **record: float) -> dict[str, Measurement]:
            doubtful = Measurement("latency_ms", value, "ms", value / 2, 2 * value, 0.42 * value,
                                   0, "predicted", "datasheet", record)  # fmt: skip
            return {"latency_ms@cpu:b1/untrained": doubtful}

        spec = toy_spec(objectives=(BUILTIN["params"], BUILTIN["latency_ms"]))

        def shares(**record: float) -> list[float]:
            trials = [
                trial(n, costs={"params": 5.0 - n}, measurements=predicted(1.0 + 0.2 * n, **record))
                for n in range(3)
            ]
            return [m.membership for m in front_of(spec, trials).members]

        assert min(shares()) < 0.7
        assert min(shares(shared=0.41)) > 0.85
        assert shares(shared=0.42) == [1.0] * 3


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


def test_json_is_the_promised_document() -> None:
    text = json.dumps(front_of(ACCURACY_AND_MACS, [trial(0, 80.0), trial(1, 90.0)]).to_json())
    document = json.loads(text)
    assert set(document) == {
        "study", "space", "device", "objectives", "trials", "hypervolume", "reference", "front",
        "possible", "unlike", "untouched",
    }  # fmt: skip
    assert document["objectives"][0] == {"name": "accuracy", "unit": "%", "goal": "maximize"}
    assert set(document["trials"]) == {"complete", "stopped", "infeasible", "failed", "running"}
    (member,) = document["front"]
    assert set(member) == {
        "trial", "key", "choices", "membership", "verdict", "measurements", "limits",
    }  # fmt: skip
    assert {"value", "low", "high", "unit", "source"} <= set(member["measurements"]["accuracy"])
