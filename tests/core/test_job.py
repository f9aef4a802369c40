"""Jobs and outcomes cross processes as JSON and come out equal."""

from __future__ import annotations

import json

import generators
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.job import (
    Build,
    Job,
    Measure,
    Outcome,
    Source,
    Train,
    Workload,
    job_from_json,
    job_to_json,
)

POINT = Architecture("toy", {"kernel": 3, "rate": 0.5, "gate": True, "norm": "batch"})
JOBS: list[Job] = [
    Build(3, POINT),
    Train(3, POINT, "b" * 32, "a.onnx", seed=7, repeat=1, from_rung=-1, to_rung=2),
    Train(3, POINT, "b" * 32, "a.onnx", 7, repeat=0, from_rung=0, to_rung=2, checkpoint="c"),
    Measure((1, 4), "trained", ("a.onnx", "b.onnx"), ("x", "y"), "cpu", Workload(8, 224), 3),
    Measure(
        (1,),
        "trained",
        ("a.onnx",),
        ("x",),
        "cpu",
        Workload(1, 64),
        sources=(Source(Architecture("toy", {"n": 1}), "w.safetensors"),),
    ),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_jobs(job: Job) -> None:
    again = job_from_json(json.loads(json.dumps(job_to_json(job))))
    assert again == job and type(again) is type(job)


@given(generators.architectures)
def test_any_architecture(point: Architecture) -> None:
    data = json.loads(json.dumps(job_to_json(Build(0, point))))
    assert job_from_json(data) == Build(0, point)


@given(st.builds(Outcome, generators.notes, st.none() | st.text(), generators.numbers))
def test_outcomes(outcome: Outcome) -> None:
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_a_workload_is_named_after_what_is_asked_of_the_network() -> None:
    assert (Workload().name, Workload(8).name, Workload(1, 224).name) == ("b1", "b8", "b1r224")
    assert Workload(4, 64, 2).name == "b4r64s2"


@given(st.integers(1, 99), st.none() | st.integers(1, 512), st.integers(1, 9))
def test_a_workloads_name_is_read_back(batch: int, side: int | None, streams: int) -> None:
    work = Workload(batch, side, streams)
    assert Workload.parse(work.name) == (work,)


def test_a_range_of_batches_is_its_powers_of_two() -> None:
    assert [w.batch for w in Workload.parse("b1-8")] == [1, 2, 4, 8]
    assert [w.batch for w in Workload.parse("b3-13r64s2")] == [3, 6, 12]
    for text in ("", "8", "b0", "b8-4", "r", "s0", "b1x2"):
        with pytest.raises(NasError):
            Workload.parse(text)
