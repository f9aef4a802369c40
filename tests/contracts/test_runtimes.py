"""Every runtime installed here, under every option a processor takes, over networks of the space:
its file answers as the module does, its timing says what ran, and what it cannot run it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.core.task import TaskSpec
from nas.deploy import forms
from nas.deploy.parity import check
from nas.hardware import runtimes
from nas.hardware.device import Device, parse
from nas.hardware.lease import Lease
from nas.hardware.protocol import Protocol, differences
from nas.hardware.timing import measure, runtime_version
from nas.transforms.fold import fold

TASK = TaskSpec("digits", (3, 16, 16), 10)
QUICK = Protocol(max_passes=6, seconds=0.1, warm_s=0.0, warm_cap_s=0.1)
FLOAT = ("onnxruntime", "torch", "torch:channels_last", "openvino")
HALF = ("torch:bf16", "torch:channels_last+bf16", "openvino:bf16")
NETWORKS = 2


def on(text: str) -> Device:
    device = parse('kind = "cpu"', "cpu").under(text)
    if runtimes.version(device.runtime) is None:
        pytest.skip(f"{device.runtime} is not installed")
    return device


@pytest.fixture(params=FLOAT + HALF)
def device(request: pytest.FixtureRequest) -> Device:
    return on(request.param)


def small(width: int = 8, seed: int = 0) -> nn.Module:
    """A network with the operators that runtimes treat differently, exported in a second."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 4, stride=4), nn.Conv2d(width, width, 7, padding=3, groups=width),
        nn.GELU(), nn.Conv2d(width, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 10),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def networks() -> list[nn.Module]:
    """Networks of the space, deployed: of sixty those of the fewest blocks, which are quick."""
    space, rng = load_space("largekernel").at(TASK), np.random.default_rng(3)
    points = sorted((space.sample(rng) for _ in range(60)), key=_blocks)[:NETWORKS]
    torch.manual_seed(0)
    return [fold(space.build(p.choices, TASK), TASK.input)[0] for p in points]


def _blocks(point: Architecture) -> int:
    return sum(v for k, v in point.choices.items() if k.endswith("depth"))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *TASK.input)).astype(np.float32)


def test_every_option_of_every_runtime_is_here_or_refused() -> None:
    for name, options in runtimes.OPTIONS.items():
        for option in ("", *options):
            text = f"{name}:{option}" if option else name
            if text in (*FLOAT, *HALF, "torch:compiled"):
                runtimes.parse(text, "cpu")
            else:
                with pytest.raises(NasError, match=r"on a processor|runs on cuda"):
                    runtimes.parse(text, "cpu")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_file_answers_as_its_module(device: Device, networks: list, tmp_path: Path) -> None:
    for module in networks:
        written = forms.write(module, TASK.input, tmp_path / "network", device)
        assert written.path.suffix == device.engine.suffix
        assert written.bytes == written.path.stat().st_size
        run = forms.open_file(written.path, device)
        found = check(module, written.path, images(8), device.engine.precision, run)
        assert found.passed and found.n == 8, found


def test_another_training_has_the_same_build(device: Device, tmp_path: Path) -> None:
    one, other = small(), small(seed=1)
    first = forms.write(one, TASK.input, tmp_path / "a", device)
    again = forms.rewrite(first.path, other, TASK.input, tmp_path / "b", device)
    assert again.build == first.build
    run = forms.open_file(again.path, device)
    assert check(other, again.path, images(4), device.engine.precision, run).passed
    third = forms.write(small(width=16), TASK.input, tmp_path / "c", device)
    assert third.build != first.build


@pytest.mark.slow
def test_precision_is_part_of_the_build(tmp_path: Path) -> None:
    builds = {
        forms.write(small(), TASK.input, tmp_path / "n", on(text)).build
        for text in ("torch", "torch:channels_last", "torch:bf16", "openvino", "openvino:bf16")
    }
    plain = forms.write(small(), TASK.input, tmp_path / "n", on("onnxruntime")).build
    assert len(builds) == 5 and plain in builds  # one ONNX file for two runtimes in float32


@pytest.mark.slow
@pytest.mark.parametrize("text", ["torch:channels_last+bf16", "openvino"])
def test_a_timing_says_what_ran(text: str, tmp_path: Path) -> None:
    device = on(text)
    path = forms.write(small(), TASK.input, tmp_path / "n", device).path
    lease, work = Lease(tmp_path / "locks", "cpu"), Workload(4)
    [found] = measure([path], device, lease, work, protocol=QUICK, basis="untrained form")
    assert isinstance(found, Measurement), found
    assert 0 < found.low < found.value < found.high and found.source == "measured"
    record, engine = found.record, device.engine
    assert (record["runtime"], record["options"]) == (engine.name, list(engine.options))
    assert (record["dtype"], record["layout"]) == (engine.precision, engine.layout)
    assert record["emulated"] is runtimes.emulated(engine, "cpu") and record["batch"] == 4
    (session,) = record["sessions"]
    assert session["runtime"][engine.name] and set(session["anchors_ms"]) == {"dense", "depthwise"}
    assert engine.name in runtime_version(device)
    other = {**record, "runtime": "onnxruntime", "options": []}
    assert any("runtime" in line for line in differences(record, other))


@pytest.mark.slow
def test_what_a_runtime_refuses_fails_alone_and_says_why(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "locks", "cpu")
    wrong = tmp_path / "network.onnx"
    wrong.write_bytes(b"another format")
    path = forms.write(small(), TASK.input, tmp_path / "n", on("torch")).path
    found = measure([wrong, path], on("torch"), lease, protocol=QUICK, basis="untrained form")
    assert "torch runs programs that torch.export wrote (.pt2)" in found[0]
    assert isinstance(found[1], Measurement)


@pytest.mark.parametrize("text", ["onnxruntime", "openvino"])
def test_an_operator_nobody_has_is_named(text: str, tmp_path: Path) -> None:
    lease, device = Lease(tmp_path / "locks", "cpu"), on(text)
    node = helper.make_node("Unheard", ["x"], ["y"], domain="nobody")
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph([node], "strange", shapes[:1], shapes[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    path = tmp_path / "strange.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    [found] = measure([path], device, lease, protocol=QUICK, basis="untrained form")
    assert isinstance(found, str) and "Unheard" in found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_compiled_network_is_timed(tmp_path: Path) -> None:
    device = on("torch:compiled")
    if runtimes.compiler() is None:
        pytest.skip("no C++ compiler")
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    path = forms.write(module, TASK.input, tmp_path / "n", device).path
    lease = Lease(tmp_path / "locks", "cpu")
    [found] = measure([path], device, lease, protocol=QUICK, basis="untrained form")
    assert isinstance(found, Measurement), found
    assert found.record["options"] == ["compiled"]
    # compiling is in the loading, and no call of a sample compiles
    assert found.record["sessions"][0]["load_s"] > 10 * found.value / 1e3
