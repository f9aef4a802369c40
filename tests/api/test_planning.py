"""What a search measures besides time, and what it refuses to."""

from pathlib import Path

import pytest

from nas.api import planning
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.hardware import energy


def planned(*objectives: str, device: str = "cpu", constraints: tuple[str, ...] = ()) -> StudySpec:
    return planning.plan(
        "largekernel", device, "digits", objectives, constraints, "random", "halving", (), 4, None,
        None, "probed", 0, False,
    )  # fmt: skip


def test_candidates_train_in_the_precision_that_is_asked_for() -> None:
    def recipe(**said: str) -> dict[str, object]:
        return planning.plan(
            "largekernel", "cpu", "digits", ["accuracy"], [], "random", "halving", (), 4, None,
            None, "one", 0, False, **said,
        ).recipe  # fmt: skip

    assert recipe(precision="fastest") == {**recipe(), "precision": "fastest"}
    assert "precision" not in recipe()  # earlier studies trained so: their results are reused
    with pytest.raises(NasError, match="no precision named 'bf16'"):
        recipe(precision="bf16")


def test_energy_is_refused_in_two_lines_where_no_counter_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy.unreadable, "__defaults__", (str(tmp_path / "powercap"),))
    with pytest.raises(NasError) as refused:
        planned("accuracy", "energy_mj")
    first, second = str(refused.value).splitlines()
    assert "energy_mj cannot be measured: no counter of energy in" in first
    assert "leave it out" in second
    with pytest.raises(NasError, match="energy is not predicted"):
        planned("accuracy", "energy_mj", device="a100")


def test_energy_is_measured_where_its_counter_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "energy_uj").write_text("5")
    monkeypatch.setattr(energy.unreadable, "__defaults__", (str(tmp_path),))
    spec = planned("accuracy", "energy_mj")
    assert spec.probes == ("energy_mj",) and spec.devices == ("cpu",)
    assert StudySpec.from_json(spec.to_json()) == spec


def test_memory_is_measured_here_and_counted_for_a_device_that_is_not() -> None:
    assert planned("accuracy", constraints=("peak_memory_mb<=64",)).probes == ("peak_memory_mb",)
    here = planned("accuracy", "peak_memory_mb")
    assert (here.probes, here.objectives[1].needs) == (("peak_memory_mb",), "measure")
    away = planned("accuracy", "peak_memory_mb", device="a100")
    assert (away.probes, away.objectives[1].needs) == ((), "module")
    assert planned("accuracy", "latency_ms").probes == ()


def test_a_limit_on_a_workload_is_part_of_the_study() -> None:
    spec = planned("accuracy", constraints=("latency_ms.p99:b1-2<=12", "throughput_ips:s2>=50"))
    assert [str(c) for c in spec.constraints] == [
        "latency_ms.p99:b1-2<=12", "throughput_ips:s2>=50"
    ]  # fmt: skip
    assert [work.name for _, work in spec.timings] == ["b1", "b2", "b1s2"]
    assert StudySpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("limit", "device", "problem", "hint"),
    [
        ("size_mb:b8<=4", "cpu", "size_mb is of one example in a call", "write size_mb<=4"),
        ("latency_ms<=-1", "cpu", "latency_ms is above 0", "write latency_ms<=NUMBER"),
        ("accuracy>=101", "cpu", "accuracy is 100 % at most", "accuracy>=90"),
        ("accuracy>=0.9", "cpu", "accuracy is in %", "write accuracy>=90"),
        ("latency_ms:b9999999<=1", "cpu", "not a constraint", "write NAME<=NUMBER"),
        ("latency_ms:s4<=4", "a100", "callers at once are not predicted", "leave :s out"),
        ("latency_ms@a100:b1:s4<=4", "cpu", "a100 is not attached", "leave :s out"),
        ("latency_ms.p99:b8<=4", "a100", "quantiles are not predicted", "write 'latency_ms:b8<=4'"),
    ],
)
def test_a_limit_that_no_measurement_could_answer_is_refused(
    limit: str, device: str, problem: str, hint: str
) -> None:
    with pytest.raises(NasError) as refused:
        planned("accuracy", "latency_ms", device=device, constraints=(limit,))
    assert problem in refused.value.problem and hint in refused.value.hint
