"""The network that was brought is what all others are compared with."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from example_study import study
from rich.console import Console, RenderableType

from nas.core.front import front_of
from nas.core.measurement import Measurement
from nas.report.documents import front_document, study_document, trial_document
from nas.report.gains import gains, told
from nas.report.tables import front_table, study_table, trial_table


def printed(shown: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=120, highlight=False, markup=False).print(shown)
    return out.getvalue()


def number(name: str, value: float, unit: str) -> Measurement:
    return Measurement.exact(name, value, unit)


def test_a_percentage_has_a_difference_and_anything_else_a_ratio() -> None:
    before = {"accuracy": number("accuracy", 90.0, "%"), "size_mb": number("size_mb", 4.0, "MB")}
    after = {"accuracy": number("accuracy", 88.5, "%"), "size_mb": number("size_mb", 1.0, "MB"),
             "latency_ms": number("latency_ms", 1.0, "ms")}  # fmt: skip
    found = gains(after, before)
    assert found["accuracy"] == {"difference": pytest.approx(-1.5)}
    assert found["size_mb"] == {"difference": -3.0, "ratio": 0.25}
    assert "latency_ms" not in found


def timed(source: str = "measured", **record: object) -> Measurement:
    return Measurement("latency_ms", 2.0, "ms", 1.9, 2.1, 0.1, 9, source, "trained file", record)


@pytest.mark.parametrize(
    ("after", "why"),
    [(timed("predicted"), "one is measured, one predicted"), (timed(runtime="torch"), "runtime")],
)
def test_numbers_that_cannot_be_compared_are_told_instead_of_their_ratio(
    after: Measurement, why: str
) -> None:
    before = timed(runtime="onnxruntime")
    assert gains({"latency_ms": timed(runtime="onnxruntime")}, {"latency_ms": before})[
        "latency_ms"
    ] == {"difference": 0.0, "ratio": 1.0}
    found = gains({"latency_ms": after}, {"latency_ms": before})["latency_ms"]
    assert found.keys() == {"unlike"} and why in found["unlike"][0]
    assert told({"latency_ms": found}) == "latency_ms not comparable"


def test_a_network_that_was_brought_is_what_all_are_compared_with() -> None:
    asked, made, _ = study()
    asked = replace(asked, network="mine:net")
    first = next(i for i, t in enumerate(made) if t.state == "complete")
    made = [
        replace(t, number=i) for i, t in enumerate([made[first], *made[:first], *made[first + 1 :]])
    ]
    front = front_of(asked, made)
    document = json.loads(json.dumps(front_document(front)))
    assert document["untouched"]["trial"] == 0
    before = document["untouched"]["measurements"]
    for row in document["front"]:
        now, gain = row["measurements"], row["gain"]
        assert gain["accuracy"] == {
            "difference": now["accuracy"]["value"] - before["accuracy"]["value"]
        }
        ratio = now["latency_ms"]["value"] / before["latency_ms"]["value"]
        assert gain["latency_ms"]["ratio"] == ratio
    text = printed(front_table(front))
    assert "against trial 0: accuracy " in text and "latency_ms x " in text
    whole = trial_document(asked, made, made[-1].number)
    rows = study_document(asked, made)["rows"]
    assert "gain" not in rows[0] and rows[5]["gain"] == trial_document(asked, made, 5)["gain"]
    assert "against trial 0" in printed(study_table(study_document(asked, made)))
    assert "against trial 0" in printed(trial_table({**whole, "gain": rows[5]["gain"]}))
