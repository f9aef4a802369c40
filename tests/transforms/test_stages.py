from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.task import Task, TaskSpec
from nas.transforms.report import Report
from nas.transforms.stages import Addition, Given, Pipeline, Transform, ordered

GIVEN = Given(TaskSpec("t", (1,), 1), lambda count: torch.zeros(count, 1))


class Log:
    """Transforms that write down when they were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def transform(self, name: str) -> Transform:
        def module_stage(stage: str):
            def call(module, given):
                self.calls.append(f"{stage} {name}")
                return module, Report(name, (), ())

            return call

        def watching(module, given):
            return Addition(after=lambda share: self.calls.append(f"step {name} {share}"))

        def writing(source, target, given):
            self.calls.append(f"write {name}")
            target.write_text(source.read_text() + name)
            return Report(name, (), ())

        return Transform(name, module_stage("prepare"), watching, module_stage("finish"), writing)


def test_the_order_does_not_depend_on_how_they_were_named() -> None:
    names = ["bitwidth", "mine", "adapter", "sparsity"]
    log = Log()
    found = [t.name for t in ordered([log.transform(n) for n in names])]
    assert found == ["sparsity", "adapter", "mine", "bitwidth"]


def test_what_came_last_is_merged_first(tmp_path: Path) -> None:
    log = Log()
    pipeline = Pipeline([log.transform(n) for n in ("adapter", "sparsity")], GIVEN)
    module = nn.Linear(1, 1)
    same, reports = pipeline.prepare(module)
    assert same is module and [r.transform for r in reports] == ["sparsity", "adapter"]
    for addition in pipeline.during(module):
        addition.after(0.5)
    deployed, reports = pipeline.deploy(module, (1,))
    assert [r.transform for r in reports] == ["adapter", "sparsity", "fold"]
    assert deployed is not module and not deployed.training
    path = tmp_path / "network.onnx"
    path.write_text("graph ")
    assert pipeline.writes
    pipeline.write(path)
    assert log.calls == [
        "prepare sparsity", "prepare adapter", "step sparsity 0.5", "step adapter 0.5",
        "finish adapter", "finish sparsity", "write sparsity", "write adapter",
    ]  # fmt: skip
    assert path.read_text() == "graph sparsityadapter"
    assert [p.name for p in tmp_path.iterdir()] == ["network.onnx"]


def test_bits_are_divided_over_what_the_others_left() -> None:
    log = Log()
    names = ["bitwidth", "mine", "adapter", "sparsity"]
    _, reports = Pipeline([log.transform(n) for n in names], GIVEN).deploy(nn.Linear(1, 1), (1,))
    assert [r.transform for r in reports] == ["mine", "adapter", "sparsity", "bitwidth", "fold"]


def test_a_stage_that_is_none_does_nothing(tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    pipeline = Pipeline([Transform("bitwidth")], GIVEN)
    assert pipeline.prepare(module) == (module, [])
    assert pipeline.during(module) == []
    assert [r.transform for r in pipeline.deploy(module, (1,))[1]] == ["fold"]
    assert not pipeline.writes
    assert pipeline.write(tmp_path / "none.onnx") == []


def test_what_else_is_said_of_a_trained_module() -> None:
    task = Task((1,), 1, lambda s, n: [], lambda o, t: o.sum(), lambda o, t: o)
    seen = []

    def judge(module, given, batches):
        seen.append((module, given.task, list(batches())))
        return Report("mine", (), (), ("said",))

    pipeline = Pipeline([Transform("bitwidth"), Transform("mine", judge=judge)], GIVEN)
    module = nn.Linear(1, 1)
    [report] = pipeline.judge(module, task, lambda: iter([1, 2]))
    assert report.notes == ("said",) and seen == [(module, task, [1, 2])]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_weights_that_hooks_compute_are_refused_by_their_new_name(name: str) -> None:
    module = nn.Sequential(nn.Linear(2, 2), getattr(nn.utils, name)(nn.Linear(2, 2)))
    pipeline = Pipeline([], Given(TaskSpec("t", (2,), 2), lambda n: torch.zeros(n, 2)))
    with pytest.raises(NasError, match=f"^1 has torch's old {name}") as raised:
        pipeline.prepare(module)
    assert raised.value.hint == f"write torch.nn.utils.parametrizations.{name} instead"
    new = nn.Sequential(getattr(nn.utils.parametrizations, name)(nn.Linear(2, 2)))
    assert pipeline.prepare(new) == (new, [])
