"""A study is its spec: the spec comes back whole, and says what may be shared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import generators
import pytest
from conftest import toy_spec
from hypothesis import given

from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.objective import BUILTIN, Constraint
from nas.core.study import StudySpec
from nas.core.task import TaskSpec


@given(generators.specs)
def test_json_round_trip(spec: StudySpec) -> None:
    assert StudySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "name", ["", "a b", "../etc", "-x", ".x", "x" * 65, "caf\u00e9", "a/b", "a\n"]
)
def test_a_name_that_could_not_name_a_file(name: str) -> None:
    with pytest.raises(NasError, match="not a study name"):
        toy_spec(name=name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0}, {"trials": -3}, {"trials": 10**30}, {"objectives": ()},
        {"hours": math.nan}, {"hours": math.inf}, {"hours": 0.0},
    ],
)  # fmt: skip
def test_refuses_a_search_of_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(NasError):
        toy_spec(**wrong)


@pytest.mark.parametrize(
    ("objectives", "constraint", "measures", "trains"),
    [
        (["macs"], None, False, False),
        (["macs", "accuracy"], None, False, True),
        (["macs", "latency_ms"], None, True, False),
        (["throughput_ips"], None, True, False),
        (["macs"], "latency_ms.p99@cpu<=3", True, False),
        (["macs"], "accuracy>=80", False, True),
        (["macs"], "error<=20", False, True),
        (["macs"], "params<=100", False, False),
    ],
)
def test_what_a_search_needs(
    objectives: list[str], constraint: str | None, measures: bool, trains: bool
) -> None:
    limits = () if constraint is None else (Constraint.parse(constraint),)
    spec = toy_spec(objectives=tuple(BUILTIN[n] for n in objectives), constraints=limits)
    assert (spec.measures, spec.trains) == (measures, trains)


def test_a_users_own_score_is_trained_for() -> None:
    task = TaskSpec("m:f", (3, 8, 8), 1, score_name="mae", score_unit="px", goal="minimize")
    spec = toy_spec(
        task=task, objectives=(BUILTIN["macs"],), constraints=(Constraint.parse("mae<=2"),)
    )
    assert spec.trains


def test_results_are_shared_only_where_the_training_agrees() -> None:
    spec = toy_spec(recipe={"lr": 0.1})
    assert replace(spec, name="other", seed=9, trials=99).recipe_digest == spec.recipe_digest
    assert replace(spec, recipe={"lr": 0.2}).recipe_digest != spec.recipe_digest
    assert replace(spec, fidelity=Fidelity(epochs=9, data=0.5)).recipe_digest != spec.recipe_digest
    assert replace(spec, fidelity=Fidelity(epochs=10)).recipe_digest != spec.recipe_digest


@pytest.mark.parametrize(
    ("objectives", "constraints", "timed"),
    [
        (["latency_ms"], ["latency_ms:b1-4<=9"], ["cpu b1", "cpu b2", "cpu b4"]),
        (["latency_ms"], ["latency_ms:b8<=9", "latency_ms.p99:b8<=12"], ["cpu b1", "cpu b8"]),
        (["macs"], ["throughput_ips:b4:s2>=9"], ["cpu b4s2"]),
        (["latency_ms"], ["latency_ms@board:r64<=9", "latency_ms:b2<=5"],
         ["cpu b1", "cpu b2", "board b1r64"]),
        (["macs"], [], []),
    ],
)  # fmt: skip
def test_what_is_timed_of_a_candidate(
    objectives: list[str], constraints: list[str], timed: list[str]
) -> None:
    limits = tuple(Constraint.parse(c) for c in constraints)
    spec = toy_spec(objectives=tuple(BUILTIN[n] for n in objectives), constraints=limits)
    assert [f"{device} {work.name}" for device, work in spec.timings] == timed
