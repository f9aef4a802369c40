from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

from example_study import spec, study

from nas.report.documents import (
    dominated,
    front_csv,
    front_document,
    study_document,
    trial_document,
)


def test_the_front_document_is_the_contract_without_samples() -> None:
    _, _, made = study()
    document = json.loads(json.dumps(front_document(made)))
    assert list(document) == [
        "study", "space", "device", "objectives", "trials", "hypervolume", "reference", "front",
        "possible", "unlike", "elsewhere", "untouched",
    ]  # fmt: skip
    row = document["front"][0]
    assert {"trial", "key", "choices", "membership", "verdict", "measurements"} <= set(row)
    timing = row["measurements"]["latency_ms"]
    assert {"value", "low", "high", "unit", "source"} <= set(timing)
    assert set(timing["record"]) == {"p50_ms", "p99_ms"}
    assert "samples" not in json.dumps(document)
    assert "sessions" in made.members[0].measurements["latency_ms"].record


def test_a_study_document_has_a_row_for_every_trial() -> None:
    asked, made, front = study()
    document = json.loads(json.dumps(study_document(asked, made)))
    assert [row["trial"] for row in document["rows"]] == [t.number for t in made]
    assert document["front"] == [m.trial for m in front.members]
    assert document["trials"] == dict(front.trials)
    assert document["rows"][36]["error"] == "out of memory\nat stage 3"
    assert document["rows"][38]["measurements"] == {}


def test_a_trial_document_keeps_everything() -> None:
    asked, made, _ = study()
    document = json.loads(json.dumps(trial_document(asked, made, 3)))
    assert document["timings"]["latency_ms@cpu:b1/trained"]["record"]["sessions"]
    assert [r["epochs"] for r in document["rungs"]] == [1, 9]
    assert document["trained"][0]["file"] == "f"
    assert document["costs"] == {"params": 60000.0, "macs": 500000.0}


def test_dominated_are_the_complete_others() -> None:
    asked, made, front = study()
    others = dominated(front, study_document(asked, made))
    on_front = {m.trial for m in front.members}
    expected = [t.number for t in made if t.state == "complete" and t.number not in on_front]
    assert [number for number, _ in others] == expected
    assert others[0][1]["latency_ms"].unit == "ms"


def test_csv_has_a_column_for_every_number_and_decision() -> None:
    _, _, front = study("accuracy", "latency_ms", "params")
    rows = list(csv.DictReader(io.StringIO(front_csv(front))))
    assert [int(r["trial"]) for r in rows] == [m.trial for m in front.members]
    for row, member in zip(rows, front.members, strict=True):
        assert float(row["latency_ms_high"]) == member.measurements["latency_ms"].high
        assert row["params_source"] == "measured"
        assert row["stages.0.kernel"] == str(member.choices["stages.0.kernel"])
        assert row["unlike"] == ""
    moved = replace(front, unlike={front.members[1].trial: ["host: a and b", "torch: 1 and 2"]})
    told = [r["unlike"] for r in csv.DictReader(io.StringIO(front_csv(moved)))]
    assert told[:2] == ["", "host: a and b; torch: 1 and 2"]


def test_an_empty_study() -> None:
    document = study_document(spec(), [])
    assert (document["rows"], document["front"]) == ([], [])
