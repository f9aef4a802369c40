"""Any network that torch.export can trace is transformed by every axis, and its file runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import networks_of_users as theirs
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import nas
from nas import api
from nas.api import crew
from nas.catalog import load_axis
from nas.core.axis import join
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.transforms.stages import Given, Pipeline

SIDE = 32
TASK = TaskSpec("digits", (3, SIDE, SIDE), 10)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    **theirs.small(10, SIDE),
    "transformers' ViT": lambda: theirs.transformers_vit(10, SIDE),
}
QAT = {"bitwidth.weights": "int8", "bitwidth.method": "qat", "bitwidth.depthwise": "int8"}
POINTS: Mapping[str, Mapping[str, object]] = {
    "sparsity+bitwidth": {
        "sparsity.pattern": "channels", "sparsity.removed": 0.5, "sparsity.schedule": "start",
        **QAT,
    },
    "adapter+bitwidth": {"adapter.method": "lora", "adapter.rank": 2, "bitwidth.weights": "int8"},
    "dilation": {"dilation.section.1.dilated": True},
}  # fmt: skip
CONVOLUTIONAL = {"ResNet-18", "U-Net", "MobileNet"}  # of the others a dilation changes nothing


def examples(count: int) -> Tensor:
    return torch.randn(count, *TASK.input, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "axes"),
    [(n, a) for n in NETWORKS for a in POINTS if a != "dilation" or n in CONVOLUTIONAL],
)
def test_every_axis_takes_it_to_a_file_that_runs(network: str, axes: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = NETWORKS[network]()
    space = SearchSpace("theirs", [], lambda choices, task: module)
    joint = join(space, [load_axis(name) for name in axes.split("+")]).at(TASK)
    named = POINTS[axes]
    point = joint.architecture({**joint.repair(named).choices, **named})
    pipeline = Pipeline(joint.transforms(point.choices, TASK), Given(TASK, examples))
    prepared, reports = pipeline.prepare(joint.build(point.choices, TASK))
    prepared.train()(examples(4))
    deployed, more = pipeline.deploy(prepared.eval(), TASK.input)
    export(deployed, TASK.input, tmp_path / "n.onnx")
    with torch.no_grad():
        expected = deployed(examples(3)).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), None, ["CPUExecutionProvider"])
    found = session.run(None, {"input": examples(3).numpy()})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    reports += more + pipeline.write(tmp_path / "n.onnx")
    for axis in axes.split("+"):
        assert any(r.touched for r in reports if r.transform == axis), axis


MINE = """
import torch
from torch import nn
from nas import Task

def task():
    def batches(split, seed):
        numbers = torch.Generator().manual_seed({"train": seed}.get(split, 1))
        for _ in range({"train": 6}.get(split, 3)):
            maps = torch.randn(8, 3, 16, 16, generator=numbers)
            yield maps, (maps.mean(1) > 0).long()

    def score(output, target):
        return (output.argmax(1) == target).float().mean((1, 2))

    return Task((3, 16, 16), 2, batches, nn.functional.cross_entropy, score, score_name="pixels")

def net(task):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, task.outputs, 1))

class Looking(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        if x.mean() > 0:
            x = -x
        return self.layer(x)

def looking(task):
    return Looking()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"brought_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crew, "default_folder", lambda: tmp_path / "locks")  # waits for nobody
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.slow
def test_a_search_of_a_network_with_a_task_of_its_own(mine: str) -> None:
    front = nas.search(
        space="sparsity+bitwidth", network=f"{mine}:net", task=f"{mine}:task", trials=3, epochs=1,
        objectives=["pixels", "size_mb"], runner="inline", study="mine", promotion="none",
        strategy="random",
    )  # fmt: skip
    assert front.untouched is not None and front.untouched.trial == 0
    for number in range(3):
        shown = json.loads(json.dumps(api.show("mine", number)))
        assert shown["state"] == "complete", shown["error"]
        assert shown["transforms"][-1]["transform"] in ("bitwidth", "fold")
        assert ("gain" in shown) == (number > 0)
    untouched = api.show("mine", 0)
    assert untouched["origin"] == "preset" and untouched["choices"]["sparsity.pattern"] == "dense"


@pytest.mark.slow
def test_control_flow_that_looks_at_values_names_the_line(mine: str, tmp_path: Path) -> None:
    nas.search(
        space="bitwidth", network=f"{mine}:looking", task=f"{mine}:task", trials=1, epochs=1,
        objectives=["pixels", "size_mb"], runner="inline", study="looking", promotion="none",
    )  # fmt: skip
    error = api.show("looking", 0)["error"]
    line = MINE.splitlines().index("        if x.mean() > 0:") + 1
    assert f"{tmp_path}/{mine}.py, line {line}: `if x.mean() > 0:`" in error
