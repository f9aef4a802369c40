"""A plan from an untrained module to the file that ships: what is learned is what is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks_of_users import ResNet18
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.deploy.graph import build_digest
from nas.transforms.quantize import transform
from nas.transforms.quantize.learned import LearnedConv2d, learning
from nas.transforms.quantize.packing import BLOB
from nas.transforms.quantize.plan import Plan
from nas.transforms.quantize.seen import calls, described, off_grid
from nas.transforms.quantize.transform import quantizing
from nas.transforms.report import Report
from nas.transforms.sparsify import Plan as Channels
from nas.transforms.sparsify import sparsifying
from nas.transforms.stages import Given, Pipeline

TASK = TaskSpec("digits", (3, 12, 12), 10)
INPUTS = torch.randn(128, 3, 12, 12, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(128) % 10
GIVEN = Given(TASK, lambda count: INPUTS[:count])


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(576, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def trained(plan: Plan, seed: int = 0, steps: int = 24) -> tuple[Pipeline, nn.Module]:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pipeline = Pipeline([quantizing(plan)], GIVEN)
    module, _ = pipeline.prepare(network())
    with torch.no_grad():  # norms with factors of both signs
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight[::3] *= -1

    def loss(network: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(network(inputs), target)

    additions = pipeline.during(module)
    for addition in additions:
        loss = addition.criterion(loss) if addition.criterion else loss  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for step in range(steps):
        module.train()
        optimizer.zero_grad()
        loss(module, INPUTS[:64], TARGET[:64]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for addition in additions:
            if addition.after is not None:
                addition.after((step + 1) / steps)
    return pipeline, module.eval()


def run(path: Path, inputs: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def shipped(pipeline: Pipeline, module: nn.Module, path: Path) -> tuple[nn.Module, list[Report]]:
    deployed, reports = pipeline.deploy(module, TASK.input)
    export(deployed, TASK.input, path)
    return deployed, reports + pipeline.write(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "method"), [("int8", "qat"), ("int4", "qat"), ("int4", "switching")]
)
def test_the_file_computes_what_was_trained(bits: str, method: str, tmp_path: Path) -> None:
    pipeline, module = trained(Plan((bits,) * 4, method=method))
    deployed, reports = shipped(pipeline, module, tmp_path / "n.onnx")
    with torch.no_grad():
        simulated, form = module(INPUTS[64:]), deployed(INPUTS[64:])
    file = run(tmp_path / "n.onnx", INPUTS[64:])
    scale = simulated.abs().max()
    # a code turns over where float32 rounds the other way; the logits are codes of the file's own
    assert (simulated - form).abs().max() / scale < 0.02
    assert (form - file).abs().max() / scale < 0.02
    assert "4 of 4 int8 layers have the weights' steps of training" in str(reports[-1])


@pytest.mark.slow
def test_the_learned_steps_are_in_the_file(tmp_path: Path) -> None:
    pipeline, module = trained(Plan(method="qat"))
    learned = {path: (layer, steps) for path, layer, steps in learning(module)}
    shipped(pipeline, module, tmp_path / "n.onnx")
    proto = onnx.load(tmp_path / "n.onnx")
    consts = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    made = {n.output[0]: n for n in proto.graph.node}
    found = [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm")]
    for node, (path, (layer, steps)) in zip(found, learned.items(), strict=True):
        rounded, weight = made[node.input[0]], made[node.input[1]]
        assert float(consts[rounded.input[1]]) == pytest.approx(
            float(steps.input_step().detach()), rel=1e-6
        )
        assert int(consts[rounded.input[2]]) == (128 if bool(steps.signed) else 0)
        expected = steps.weight_step().detach().numpy()
        if isinstance(layer, LearnedConv2d):
            norm = module.get_submodule(str(int(path) + 1))
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            expected = expected * factor.detach().abs().numpy()
        ratio = consts[weight.input[1]] / expected  # 2 where only every second code is used
        np.testing.assert_allclose(ratio, np.rint(ratio), rtol=1e-4)
        assert (np.rint(ratio) == 1).mean() > 0.9


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_a_division_by_the_hessian_knows_how_much_each_layer_matters(
    method: Literal["ptq", "qat"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    of = transform.traces
    monkeypatch.setattr(
        transform, "traces", lambda *given: found.extend(answer := of(*given)) or answer
    )
    pipeline, module = trained(Plan(average=4.0, allocator="hessian", method=method), steps=4)
    shipped(pipeline, module, tmp_path / "n.onnx")
    assert len(found) > 2 and all(trace > 0 for trace in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("allocator", "method"), [("hessian", "ptq"), ("adapt", "ptq"), ("hessian", "switching")]
)
def test_a_divided_budget_is_kept_and_every_training_has_one_graph(
    allocator: str, method: str, tmp_path: Path
) -> None:
    plan = Plan(average=4.0, allocator=allocator, method=method)
    digests, sizes = set(), set()
    for steps in (0, 16):
        pipeline, module = trained(plan, steps=steps)
        path = tmp_path / f"{steps}.onnx"
        _, reports = shipped(pipeline, module, path)
        proto = onnx.load(path)
        held = "\n".join(t.name for t in proto.graph.initializer)
        onnx.helper.set_model_props(proto, {"nas.weights": held})
        digests.add(build_digest(proto))
        sizes.add(path.stat().st_size)
        spent = float(str(reports[-1]).split(" bits a weight of 4 asked for")[0].split()[-1])
        assert spent <= 4.0
        assert run(path, INPUTS[:4]).shape == (4, 10)
    assert len(digests) == 1
    assert max(sizes) - min(sizes) < 100  # names of numbers


@pytest.mark.slow
@pytest.mark.parametrize(("allocator", "timing"), [("hessian", "gradual"), ("adapt", "oneshot")])
def test_a_budget_is_of_the_weights_that_are_left(
    allocator: str, timing: str, tmp_path: Path
) -> None:
    plan = Plan(average=4.0, allocator=allocator)
    lost = sparsifying(Channels("channels", 0.75, "global", timing))
    pipeline = Pipeline([lost, quantizing(plan)], GIVEN)
    strings = set()
    for turned in (False, True):  # other weights, as a training leaves them: the string is as long
        torch.manual_seed(0)
        module, _ = pipeline.prepare(ResNet18(10))
        if turned:
            with torch.no_grad():
                for weight in (p for p in module.parameters() if p.dim() > 1):
                    weight.copy_(torch.randn_like(weight) ** 3 * weight.std())
        path = tmp_path / "n.onnx"
        _, reports = shipped(pipeline, module.eval(), path)
        spent = float(str(reports[-1]).split(" bits a weight of 4 asked for")[0].split()[-1])
        assert 3.9 < spent <= 4.0
        strings.add(_string(path))
    assert len(strings) == 1


def _string(path: Path) -> int:
    """The bytes of a file's codes."""
    [held] = [t for t in onnx.load(path).graph.initializer if t.name == BLOB]
    return int(numpy_helper.to_array(held).size)


def test_the_ends_keep_eight_bits(tmp_path: Path) -> None:
    plan = Plan(("int4",) * 4)
    pipeline = Pipeline([quantizing(plan)], GIVEN)
    torch.manual_seed(0)
    _, reports = shipped(pipeline, network().eval(), tmp_path / "n.onnx")
    lines = reports[-1].touched
    assert [" in 4 bits" in line for line in lines] == [False, True, True, False]


def test_what_folding_does_to_rows_is_found_out_by_trying() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1))
            self.behind = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))

        def forward(self, x: Tensor) -> Tensor:
            return self.behind(self.before(x)).mean((2, 3))  # type: ignore[no-any-return]

    module = Block()
    found = calls(module, torch.randn(2, 4, 8, 8))
    assert [call.path for call in found] == ["before.1", "behind.0"]
    assert off_grid(module, (4, 8, 8), found) == {
        "before.1": "the norm before it is folded into it"
    }
    rows = described(found)
    assert [row.macs for row in rows] == [24 * 64, 36 * 9 * 64]
    assert [row.end for row in rows] == [True, True]


def test_layers_that_read_one_tensor_are_known_to() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.last(self.one(x) + self.other(x))  # type: ignore[no-any-return]

    one, other, last = calls(Fork(), torch.randn(2, 4))
    assert one.given == other.given != last.given


def test_a_bare_plan_learns_nothing_and_does_not_touch_the_module() -> None:
    transform = quantizing(Plan())
    assert transform.prepare is None and transform.during is None and transform.finish is None


def test_on_a_device_without_kernels_formats_say_that_they_only_save_bytes(
    tmp_path: Path,
) -> None:
    pipeline = Pipeline(
        [quantizing(Plan(("fp16", "int4", "int8", "int8")))],
        replace(GIVEN, kernels=("fp16", "int8")),
    )
    torch.manual_seed(0)
    _, reports = shipped(pipeline, network().eval(), tmp_path / "n.onnx")
    notes: Sequence[str] = reports[-1].notes
    assert notes == ("int4 is storage only: the runtime computes it in int8",)
