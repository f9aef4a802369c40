"""Whatever holds weights is named by every axis: what was done to it, or why nothing was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import networks_of_users as theirs
import onnx
import pytest
import torch
from torch import Tensor, nn

from nas.catalog import load_axis, load_space
from nas.core.axis import join
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.networks.mixers.depthwise import Depthwise
from nas.transforms.report import Report
from nas.transforms.stages import Given, Pipeline

SIDE = 32
TASK = TaskSpec("digits", (3, SIDE, SIDE), 10)


def preset(space: str, name: str) -> nn.Module:
    found = load_space(space).at(TASK)
    module: nn.Module = found.build(found.preset(name).choices, TASK)
    return module


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    **theirs.small(10, SIDE),
    "convnext_a": lambda: preset("largekernel", "convnext_a"),
    "pvt_tiny": lambda: preset("hiervit", "pvt_tiny"),
    "resnet18": lambda: preset("resnet", "resnet18"),
}
WIDE = ("convnext_a", "pvt_tiny", "resnet18")  # published sizes: slower
DILATED = {f"dilation.section.{i}.dilated": True for i in range(4)}
POINTS: Mapping[str, Mapping[str, object]] = {
    "unstructured": {
        "sparsity.pattern": "unstructured", "sparsity.zeros": 0.8, "sparsity.schedule": "start",
    },
    "2:4": {"sparsity.pattern": "2:4", "sparsity.schedule": "start"},
    "channels": {
        "sparsity.pattern": "channels", "sparsity.removed": 0.5, "sparsity.schedule": "start",
    },
    **{method: {"adapter.method": method} for method in
       ("head", "lora", "ssf", "difffit", "linear", "bottleneck", "snnk", "prompt", "pruning")},
    "patterns": DILATED,
    "grown": {"dilation.kernel": "full"},
    "qat": {"bitwidth.weights": "int8", "bitwidth.method": "qat"},
    "divided": {"bitwidth.weights": "divided"},
    "patterns, qat": {**DILATED, "bitwidth.weights": "int8", "bitwidth.method": "qat"},
}  # fmt: skip
UNGROWN = ("ViT", "MLP", "pvt_tiny")  # nothing of them can be dilated, which is refused
SLOW = [(n, p) for n in NETWORKS for p in POINTS
        if (n in WIDE or p == "grown") and not (n in UNGROWN and p == "grown")]  # fmt: skip
QUICK = [(n, p) for n in NETWORKS for p in POINTS if n not in WIDE and p != "grown"]


def examples(count: int) -> Tensor:
    return torch.randn(count, *TASK.input, generator=torch.Generator().manual_seed(0))


def holders(module: nn.Module) -> set[str]:
    """The paths of parts with weights of their own; of the network itself, the weights' names."""
    found = set()
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            found.add(name.rpartition(".")[0] or name)
    return found


def reported(network: str, point: str) -> tuple[set[str], nn.Module, Pipeline, list[Report]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = NETWORKS[network]()
    parts = holders(module)
    named = POINTS[point]
    axes = dict.fromkeys(name.partition(".")[0] for name in named)
    space = SearchSpace("theirs", [], lambda choices, task: module)
    joint = join(space, [load_axis(axis) for axis in axes]).at(TASK)
    choices = joint.architecture({**joint.repair(named).choices, **named}).choices
    given = Given(TASK, examples, pretrained=True)
    pipeline = Pipeline(joint.transforms(choices, TASK), given)
    prepared, reports = pipeline.prepare(joint.build(choices, TASK))
    deployed, more = pipeline.deploy(prepared.eval(), TASK.input)
    return parts, deployed, pipeline, [*reports, *more]


def unnamed(parts: set[str], reports: list[Report], axis: str) -> set[str]:
    names = set()
    for report in (r for r in reports if r.transform == axis):
        lines = [line.partition(":")[0] for line in report.touched]
        for name in (*lines, *(path for path, _ in report.skipped)):
            names |= {name, name.removesuffix(".weight")}
        assert all(len(why.split()) > 1 for _, why in report.skipped)
    return parts - names


def check(network: str, point: str) -> None:
    parts, _, _, reports = reported(network, point)
    for axis in {name.partition(".")[0] for name in POINTS[point]}:
        assert not unnamed(parts, reports, axis), axis


@pytest.mark.parametrize(("network", "point"), QUICK)
def test_every_layer_is_named(network: str, point: str) -> None:
    check(network, point)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "point"), SLOW)
def test_every_layer_of_ours_is_named(network: str, point: str) -> None:
    check(network, point)


@pytest.mark.parametrize("network", ["U-Net", "ViT"])
def test_every_weight_of_a_file_is_named(network: str, tmp_path: Path) -> None:
    _, deployed, pipeline, _ = reported(network, "qat")
    path = tmp_path / "n.onnx"
    export(deployed, TASK.input, path)
    weights = {t.name for t in onnx.load(path).graph.initializer
               if len(t.dims) > 1 and t.data_type == onnx.TensorProto.FLOAT}  # fmt: skip
    [report] = pipeline.write(path)
    told = dict(report.skipped)
    assert weights <= {line.partition(":")[0] for line in report.touched} | set(told)
    if network == "U-Net":
        assert told["up1.weight"] == "ConvTranspose: no number format is made for it"


def test_transposed_convolutions_are_masked() -> None:
    _, deployed, _, reports = reported("U-Net", "unstructured")
    for layer in (deployed.up1, deployed.up2):
        assert float((layer.weight == 0).float().mean()) == pytest.approx(0.8, abs=0.01)
    assert {"up1", "up2"} <= {line.partition(":")[0] for line in reports[0].touched}


@pytest.mark.slow
def test_depthwise_layers_of_ours_are_adapted_and_the_rest_says_why_not() -> None:
    mixers = {path for path, part in NETWORKS["convnext_a"]().named_modules()
              if isinstance(part, Depthwise)}  # fmt: skip
    assert len(mixers) == 12
    for point in ("ssf", "lora"):
        *_, reports = reported("convnext_a", point)
        assert mixers <= {line.partition(":")[0] for line in reports[0].touched}
    *_, reports = reported("convnext_a", "unstructured")
    told = dict(reports[0].skipped)
    assert all(told[path].startswith("depthwise") for path in mixers)
