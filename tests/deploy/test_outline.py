from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.deploy.outline import outline, stages


class Small(nn.Module):
    """A stem, a stage of a dilated depthwise layer and a point, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        block = nn.Sequential(
            nn.Conv2d(8, 8, 5, padding=6, dilation=3, groups=8), nn.ReLU(), nn.Conv2d(8, 16, 1)
        )
        self.stages = nn.ModuleList([block])
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stages[0](self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = Small().eval()
    with torch.no_grad():
        module.stages[0][2].weight[:8] = 0.0  # type: ignore[index]
    path = tmp_path_factory.mktemp("outline") / "small.onnx"
    export(module, (3, 32, 32), path)
    return path


def test_layers_are_as_they_were_built(file: Path) -> None:
    stem, wide, point, head = outline(file)
    assert (stem.path, stem.kind, stem.kernel, stem.stride) == (
        "stem",
        "convolution",
        (4, 4),
        (4, 4),
    )
    assert (wide.path, wide.kind, wide.dilation) == ("stages.0.0", "depthwise", (3, 3))
    assert (wide.kernel, wide.reach, wide.map) == ((5, 5), (13, 13), (8, 8))
    assert (point.channels, point.zeros, point.bits) == ((8, 16), 0.5, 32)
    assert (head.kind, head.channels, head.map) == ("linear", (16, 10), (1, 1))
    macs = 3 * 8 * 16 * 64 + 25 * 8 * 64 + 8 * 16 * 64 + 160
    assert sum(layer.macs for layer in (stem, wide, point, head)) == macs


def test_stages_are_named_as_the_modules_are(file: Path) -> None:
    found = stages(outline(file))
    assert [(name, len(layers)) for name, layers in found] == [
        ("stem", 1),
        ("stages.0", 2),
        ("head", 1),
    ]


def test_a_plain_sequence_is_cut_by_its_maps(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1),
                           nn.Conv2d(4, 8, 2, stride=2), nn.Conv2d(8, 8, 3, padding=1),
                           nn.Flatten(), nn.Linear(8 * 64, 10)).eval()  # fmt: skip
    export(module, (3, 16, 16), tmp_path / "plain.onnx")
    found = stages(outline(tmp_path / "plain.onnx"))
    assert [(name, len(layers)) for name, layers in found] == [
        ("16 x 16", 2),
        ("8 x 8", 2),
        ("1 x 1", 1),
    ]


def test_quantized_weights_say_their_bits(file: Path, tmp_path: Path) -> None:
    from nas.transforms.quantize.file import quantize
    from nas.transforms.quantize.plan import Plan

    examples = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    plan = Plan(depthwise=False)
    quantize(file, tmp_path / "int8.onnx", plan, examples)
    bits = {layer.path: layer.bits for layer in outline(tmp_path / "int8.onnx")}
    assert bits["stages.0.0"] == 32
    assert bits["stem"] == bits["stages.0.2"] == 8
    point = next(y for y in outline(tmp_path / "int8.onnx") if y.path == "stages.0.2")
    assert point.zeros >= 0.5


def test_packed_weights_are_layers_too(file: Path, tmp_path: Path) -> None:
    from nas.transforms.quantize.file import quantize
    from nas.transforms.quantize.plan import Plan

    examples = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    quantize(file, tmp_path / "few.onnx", Plan(average=4.0), examples)
    assert [layer.path for layer in outline(tmp_path / "few.onnx")] == [
        layer.path for layer in outline(file)
    ]


def test_every_layer_of_a_searched_network_is_found(tmp_path: Path) -> None:
    from nas.catalog import load_space
    from nas.transforms.fold import fold

    task = TaskSpec("digits", (3, 32, 32), 10)
    space = load_space("largekernel").at(task)
    point = space.sample(np.random.default_rng(3))
    deployed, _ = fold(space.build(point.choices, task).eval(), task.input)
    export(deployed, task.input, tmp_path / "a.onnx")
    layers = outline(tmp_path / "a.onnx")
    wanted = [m for m in deployed.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) >= len(wanted)
    names = [name for name, _ in stages(layers)]
    assert names[0] == "stem"
    assert {f"stages.{i}" for i in range(4)} <= set(names)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(NasError, match="cannot be read"):
        outline(tmp_path / "a.onnx")
