"""What a training to the end left, and the interval of its test score against scipy's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import toy_spec
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from nas.core.finished import Finished, finished, on_test_images, wilson
from nas.core.trial import Event

SCORE = {"score": 90.0, "se": 3.0, "n": 100}
DONE = Finished(
    3, "w.safetensors", "f.onnx", "b1", {"epochs": 30}, "c.safetensors", "toy:1", SCORE, SCORE,
    SCORE, 12.5,
)  # fmt: skip


@given(st.integers(1, 500), st.data())
def test_wilsons_interval(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    known = binomtest(hits, n).proportion_ci(0.9, method="wilson")
    assert wilson(hits / n, n) == pytest.approx((known.low, known.high), abs=1e-9)


def test_the_last_of_each_trial_counts_and_failures_do_not() -> None:
    def event(done: Finished, **more: object) -> Event:
        return Event("reported", done.trial, {"job": "finish", **done.to_json(), **more})

    later, other = replace(DONE, weights="later"), replace(DONE, trial=5)
    failed = Event("reported", 3, {"job": "finish", "error": "it diverged"})
    searched = Event("reported", 3, {"job": "build", "build": "b1"})
    found = finished([searched, event(DONE), event(other), event(later), failed])
    assert found == {3: later, 5: other}
    assert found[3].epochs == 30 and found[3].trained.confirm == 90.0


def test_a_test_score_with_its_interval() -> None:
    found = on_test_images(SCORE, toy_spec())
    assert found is not None
    low, high = wilson(0.9, 100)
    assert (found.value, found.low, found.high) == (90.0, 100 * low, 100 * high)
    assert found.record["interval"] == "Wilson, 90 % confidence" and found.basis == "test images"
    assert on_test_images({**SCORE, "n": 0}, toy_spec()) is None
    spec = toy_spec()
    other = replace(spec, task=replace(spec.task, score_name="iou", score_unit=""))
    found = on_test_images(SCORE, other)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((90 - 1.6449 * 3, 90 + 1.6449 * 3), abs=1e-3)
