"""A search under another runtime than the device's own: what is planned, and what is refused."""

from __future__ import annotations

import pytest

from nas.api import planning
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.hardware import runtimes


def planned(device: str, runtime: str | None, *constraints: str) -> StudySpec:
    return planning.plan(
        "largekernel", device, "digits", (), constraints, "random", "halving", (), 4, None,
        None, "runs", 0, False, runtime,
    )  # fmt: skip


def test_the_study_names_the_runtime_of_its_own_device_alone() -> None:
    spec = planned("cpu", "torch:bf16+channels_last")
    assert spec.runtime == "torch:channels_last+bf16"
    assert (spec.runtime_on("cpu"), spec.runtime_on("a100")) == (spec.runtime, None)
    assert StudySpec.from_json(spec.to_json()) == spec
    assert planned("cpu", None).runtime is None
    earlier = {k: v for k, v in spec.to_json().items() if k != "runtime"}
    assert StudySpec.from_json(earlier).runtime is None


def test_results_are_filed_under_the_runtime() -> None:
    from nas.hardware.device import named
    from nas.runners.benches import bench

    found = {bench(named("cpu").under(r)).runtime for r in (None, "torch", "torch:bf16")}
    assert len(found) == 3


@pytest.mark.parametrize(
    ("device", "runtime", "problem"),
    [
        ("cpu", "torch:graphs", "graphs records launches of a GPU"),
        ("cpu", "onnx", "no runtime named 'onnx'"),
        ("a100", "torch:bf16", "can only be measured"),
        ("a100", "onnxruntime", "onnxruntime runs on cpu here"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(
    device: str, runtime: str, problem: str
) -> None:
    with pytest.raises(NasError, match=problem):
        planned(device, runtime)


def test_a_candidate_is_one_file_for_all_devices() -> None:
    assert planned("cpu", "openvino", "latency_ms@a100<=2").devices == ("cpu", "a100")
    with pytest.raises(NasError) as refused:
        planned("cpu", "torch", "latency_ms@a100<=2")
    assert "under torch takes .pt2, a100 is predicted from ONNX" in refused.value.problem
    assert "nas retarget STUDY --device a100" in refused.value.hint


def test_a_runtime_that_is_not_installed_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "version", lambda name: None)
    with pytest.raises(NasError, match="openvino is not installed here"):
        planned("cpu", "openvino")
