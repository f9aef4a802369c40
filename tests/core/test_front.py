"""The front against brute force, and its intervals against what repeats do."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from conftest import toy_spec
from example_trials import latency, trial
from hypothesis import given
from hypothesis import strategies as st

from nas.core.front import front_of
from nas.core.known import unique
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN

ACCURACY_AND_MACS = toy_spec()
TIMED = toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]))


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


def test_the_network_that_a_user_brought_is_trial_0_and_none_but_it() -> None:
    spec = replace(ACCURACY_AND_MACS, network="studies.residual:small")
    trials = [trial(1, 90.0, macs=2.0), trial(0, 80.0, macs=3.0)]
    found = front_of(spec, trials).untouched
    assert found is not None and (found.trial, found.measurements["macs"].value) == (0, 3.0)
    assert front_of(spec, trials[:1]).untouched is None
    assert front_of(ACCURACY_AND_MACS, trials).untouched is None


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


def test_json_is_the_promised_document() -> None:
    text = json.dumps(front_of(ACCURACY_AND_MACS, [trial(0, 80.0), trial(1, 90.0)]).to_json())
    document = json.loads(text)
    assert set(document) == {
        "study", "space", "device", "objectives", "trials", "hypervolume", "reference", "front",
        "possible", "unlike", "elsewhere", "untouched",
    }  # fmt: skip
    assert document["objectives"][0] == {"name": "accuracy", "unit": "%", "goal": "maximize"}
    assert set(document["trials"]) == {"complete", "stopped", "infeasible", "failed", "running"}
    (member,) = document["front"]
    assert set(member) == {
        "trial", "key", "choices", "membership", "verdict", "measurements", "limits",
    }  # fmt: skip
    assert {"value", "low", "high", "unit", "source"} <= set(member["measurements"]["accuracy"])
