from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_space, toy_spec

from nas.core.trial import Trial
from nas.report.importance import importance, importance_document


def told(number: int, rng: np.random.Generator, values) -> Trial:
    point = toy_space().sample(rng)
    return Trial(number, point, state="complete", values=values(point.choices))


def trials(values, count: int = 120) -> list[Trial]:
    rng = np.random.default_rng(0)
    return [told(n, rng, values) for n in range(count)]


def shares(made: list[Trial]) -> dict[str, float]:
    return {i.decision: i.share for i in importance(toy_space(), toy_spec(), made)}


def depth_decides(choices) -> dict[str, float]:
    return {"accuracy": float(choices["depth"]), "macs": 1.0}


def test_the_decision_that_decides_has_nearly_all() -> None:
    found = importance(toy_space(), toy_spec(), trials(depth_decides))
    assert found[0].decision == "depth" and found[0].share > 0.6
    assert sum(i.share for i in found) == pytest.approx(1)
    assert [i.share for i in found] == sorted((i.share for i in found), reverse=True)


def test_both_objectives_count() -> None:
    """On the front: the most accurate for their cost, which here is the small kernel alone."""

    def values(choices):
        return {"accuracy": float(choices["depth"]), "macs": choices["depth"] * choices["kernel"]}

    found = shares(trials(values))
    assert max(found, key=found.__getitem__) == "kernel"


def test_a_conditional_decision_counts_where_it_has_an_effect() -> None:
    def values(choices):
        return {"accuracy": 10.0 * (choices.get("dilation") == 2), "macs": 1.0}

    found = {i.decision: i for i in importance(toy_space(), toy_spec(), trials(values))}
    small = sum(t.architecture.choices["kernel"] == 3 for t in trials(values))
    assert found["dilation"].active <= small < found["width"].active
    assert min(found["dilation"].share, found["kernel"].share) > 4 * max(
        found["width"].share, found["depth"].share
    )


def test_what_breaks_a_constraint_has_not_reached_the_front() -> None:
    """The deepest are best but break a limit; those of middle depth remain."""
    made = [
        replace(t, state="infeasible", violations={"macs<=9": t.values["accuracy"]})
        if t.architecture.choices["width"] == 128 else t
        for t in trials(lambda c: {"accuracy": float(c["width"]), "macs": 1.0})
    ]  # fmt: skip
    found = importance(toy_space(), toy_spec(), made)
    assert found[0].decision == "width"
    best = max(t.values["accuracy"] for t in made if t.feasible)
    assert best == 64


def test_failures_copies_and_unfinished_trials_say_nothing() -> None:
    made = trials(depth_decides)
    first = made[0]
    extra = [
        Trial(200, first.architecture, state="failed", error="it broke"),
        Trial(201, first.architecture),
        replace(first, number=202, values={"accuracy": 99.0, "macs": 0.0}, reused="trial 0"),
    ]
    assert importance(toy_space(), toy_spec(), made + extra) == importance(
        toy_space(), toy_spec(), made
    )


def test_choices_that_the_space_no_longer_has_do_not_stop_it() -> None:
    made = trials(depth_decides)
    older = replace(made[0].architecture, choices={**made[0].architecture.choices, "kernel": 11})
    assert importance(toy_space(), toy_spec(), [replace(made[0], architecture=older), *made[1:]])


def test_with_too_few_or_equal_networks_nothing_is_said() -> None:
    assert importance(toy_space(), toy_spec(), trials(depth_decides, count=5)) == []
    assert (
        importance(toy_space(), toy_spec(), trials(lambda c: {"accuracy": 1.0, "macs": 1.0})) == []
    )


def test_the_document_is_plain_data() -> None:
    document = importance_document(toy_space(), toy_spec(), trials(depth_decides))
    assert json.loads(json.dumps(document)) == document
    assert set(document["rows"][0]) == {"decision", "share", "active"}


def test_torch_is_not_imported() -> None:
    code = "import sys, nas.report.importance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
