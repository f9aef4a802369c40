"""Adapters with other axes, and on transformers' own vision transformer, to the file."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from adapter_networks import NETWORKS, SHAPE, far
from torch import Tensor, nn

from nas.catalog import load_axis
from nas.core.axis import join
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.transforms.quantize.learned import learning
from nas.transforms.stages import Given, Pipeline

TASK = TaskSpec("t", SHAPE, 5)


def examples(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def shipped(make: object, axes: tuple[str, ...], choices: dict, path: Path) -> tuple[Tensor, ...]:
    """What the adapted module answers to some examples, and what its file does."""
    base = SearchSpace("plain", [], lambda choices, task: make())
    space = join(base, [load_axis(name) for name in axes]).at(TASK)
    point = space.repair(choices)
    assert choices.items() <= point.choices.items()
    pipeline = Pipeline(space.transforms(point.choices, TASK), Given(TASK, examples))
    torch.manual_seed(0)
    module, _ = pipeline.prepare(space.build({}, TASK))
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn_like(parameter))
    module.eval()
    export(pipeline.deploy(module, SHAPE)[0], SHAPE, path)
    pipeline.write(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"input": examples(16).numpy()})[0]
    return module(examples(16)), torch.from_numpy(answer)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_it_is_merged_before_scales_are_chosen(method: str, tmp_path: Path) -> None:
    choices = {"adapter.method": method, "bitwidth.weights": "int8"}
    path = tmp_path / "n.onnx"
    expected, found = shipped(NETWORKS["fused"], ("adapter", "bitwidth"), choices, path)
    kinds = {t.data_type for t in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert 0 < far(found, expected) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "ssf"])
def test_bits_are_divided_over_what_was_merged(method: str, tmp_path: Path) -> None:
    choices = {
        "adapter.method": method, "bitwidth.weights": "divided", "bitwidth.average": 7,
        "bitwidth.method": "ptq",
    }  # fmt: skip
    path = tmp_path / "n.onnx"
    expected, found = shipped(NETWORKS["fused"], ("adapter", "bitwidth"), choices, path)
    assert 0 < far(found, expected) < 0.15
    held = onnx.load(path).graph.initializer
    assert "packed" in {t.name for t in held}  # every layer's codes are, and none has its own
    assert not any(t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1 for t in held)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ssf", "bottleneck"])
def test_zeros_of_pruned_weights_stay(method: str, tmp_path: Path) -> None:
    choices = {
        "adapter.method": method, "sparsity.pattern": "unstructured", "sparsity.zeros": 0.8,
        "sparsity.schedule": "start",
    }  # fmt: skip
    path = tmp_path / "n.onnx"
    expected, found = shipped(NETWORKS["fused"], ("adapter", "sparsity"), choices, path)
    assert far(found, expected) < 1e-4
    weights = [
        onnx.numpy_helper.to_array(t)
        for t in onnx.load(path).graph.initializer
        if len(t.dims) == 2 and "mlp" in t.name
    ]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
    assert zeros > 0.6  # of the six matrices of the perceptrons


@pytest.mark.slow
def test_channels_go_before_adapters_come(tmp_path: Path) -> None:
    choices = {
        "adapter.method": "lora", "sparsity.pattern": "channels", "sparsity.removed": 0.5,
        "sparsity.schedule": "start",
    }  # fmt: skip
    expected, found = shipped(
        NETWORKS["convolutions"], ("adapter", "sparsity"), choices, tmp_path / "n.onnx"
    )
    assert far(found, expected) < 1e-4


@pytest.mark.parametrize("learned", ["qat", "switching"])
@pytest.mark.parametrize("method", ["head", "bottleneck", "snnk", "prompt"])
def test_a_frozen_network_learns_how_its_inputs_are_rounded(method: str, learned: str) -> None:
    choices = {
        "adapter.method": method, "bitwidth.weights": "int8", "bitwidth.method": learned,
    }  # fmt: skip
    base = SearchSpace("plain", [], lambda choices, task: NETWORKS["convolutions"]())
    space = join(base, [load_axis(name) for name in ("adapter", "bitwidth")]).at(TASK)
    point = space.repair(choices)
    assert choices.items() <= point.choices.items()
    pipeline = Pipeline(space.transforms(point.choices, TASK), Given(TASK, examples))
    torch.manual_seed(0)
    module, _ = pipeline.prepare(space.build({}, TASK))
    before = module.eval()(examples(16)).detach()
    additions = pipeline.during(module)

    def loss(network: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(inputs), target)

    for addition in additions:
        loss = addition.criterion(loss) if addition.criterion else loss
    for step in range(4):
        module.train()
        loss(module, examples(16), torch.arange(16) % 5)
        for addition in additions:
            if addition.after is not None:
                addition.after((step + 1) / 4)
    listed = [steps for _, _, steps in learning(module)]
    assert listed and all(steps.on for steps in listed)
    seen = [float(steps.input_step()) > 1e-6 for steps in listed]
    assert sum(seen) >= len(seen) - 1  # a bottleneck's one hidden channel may be zero throughout
    assert far(module.eval()(examples(16)), before) < 0.1


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        self.vit = ViTForImageClassification(
            ViTConfig(**sizes, intermediate_size=32, image_size=16, patch_size=8, num_labels=5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(x).logits


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        {"adapter.method": "lora", "adapter.mixing": "queries", "adapter.channels": "none"},
        {"adapter.method": "prompt", "adapter.depth": "shallow"},
        {"adapter.method": "ssf", "adapter.heads": 1, "adapter.leave": "half"},
    ],
)
def test_the_vision_transformer_of_transformers(choices: dict, tmp_path: Path) -> None:
    expected, found = shipped(Vision, ("adapter",), choices, tmp_path / "n.onnx")
    early = "adapter.leave" in choices  # then the file answers before the module's end
    assert (far(found, expected) < 1e-4) != early and found.shape == (16, 5)
