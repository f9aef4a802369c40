"""int8 in a torch program, against onnxruntime running the file it is of."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.deploy.export import export
from nas.hardware.runtimes import Runtime, opened
from nas.hardware.runtimes.torch import write
from nas.transforms.quantize.file import quantize
from nas.transforms.quantize.plan import Plan
from nas.transforms.quantize.program import in_torch

IMAGES = np.random.default_rng(0).standard_normal((48, 3, 12, 12)).astype(np.float32)


class Attending(nn.Module):
    """A product of two activations between convolutions, and a linear layer on the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.mix = nn.Linear(24, 24)
        self.last = nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        tokens = self.mix(self.wide(x).flatten(2).transpose(1, 2))
        weights = (tokens @ tokens.transpose(1, 2) / 5).softmax(-1)
        return self.last((weights @ tokens).mean(1))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Attending().eval()


def quantized(network, folder, plan):
    export(network, (3, 12, 12), folder / "float.onnx")
    quantize(folder / "float.onnx", folder / "int8.onnx", plan, IMAGES[:32])
    return folder / "int8.onnx"


def outputs(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": IMAGES})[0]


@pytest.mark.parametrize("plan", [Plan(depthwise=True), Plan(ends=False)])
def test_it_answers_as_the_file_does(network, tmp_path, plan):
    path = quantized(network, tmp_path, plan)
    with torch.no_grad():
        plain = network(torch.from_numpy(IMAGES)).numpy()
        found = in_torch(network, path)(torch.from_numpy(IMAGES)).numpy()
    right = outputs(path)
    rounding = np.abs(plain - right).mean()  # what int8 changes
    assert rounding > 0
    assert np.abs(found - right).mean() < 0.75 * rounding
    assert np.corrcoef((found - plain).ravel(), (right - plain).ravel())[0, 1] > 0.7


def test_its_weights_are_the_codes_of_the_file_and_one_byte_each(network, tmp_path):
    path = quantized(network, tmp_path, Plan(depthwise=True))
    module = in_torch(network, path)
    for name in ("first", "wide", "mix", "last"):
        before, layer = network.get_submodule(name).weight, module.get_submodule(name)
        assert layer.parametrizations.weight.original.dtype == torch.int8
        step = before.flatten(1).abs().amax(1) / 127
        error = (layer.weight - before).flatten(1).abs().amax(1)
        assert (error <= step * 0.51).all()
    assert network.first.weight.dtype == torch.float32  # the one it was given is as it was


def test_the_program_of_it_is_small_and_runs(network, tmp_path):
    module = in_torch(network, quantized(network, tmp_path, Plan(depthwise=True)))
    runtime = Runtime("torch")
    write(module, (3, 12, 12), tmp_path / "int8.pt2", runtime)
    with torch.no_grad():
        expected = module(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(
        opened(tmp_path / "int8.pt2", runtime, "cpu")(IMAGES), expected, atol=1e-5
    )


def test_other_formats_have_no_program(network, tmp_path):
    path = quantized(network, tmp_path, Plan(formats=("int8-weights",) * 4))
    with pytest.raises(NasError, match="int8 with fixed ranges"):
        in_torch(network, path)
    path = quantized(network, tmp_path, Plan(formats=("int4",) * 4, depthwise=True))
    with pytest.raises(NasError, match="int8 with fixed ranges"):
        in_torch(network, path)


def test_a_weight_of_another_network_is_no_parameter(network, tmp_path):
    path = quantized(network, tmp_path, Plan())
    with torch.no_grad():
        network.mix.weight *= 3  # in the file under another name, known by its values
    with pytest.raises(NasError, match=r"is no parameter of the network's own"):
        in_torch(network, path)


class Bare(nn.Module):
    """A product with a parameter that is no layer's, of something else than the module's input."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 16, 3, 2, 1)
        self.weight = nn.Parameter(torch.randn(16, 7) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (3 * torch.relu(self.before(x)).mean((2, 3))) @ self.weight


class Twice(nn.Module):
    """A layer that runs twice, with unlike inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 16, 3, 2, 1)
        self.again = nn.Conv2d(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(5 * torch.relu(self.again(self.before(x)))).mean((2, 3))


@pytest.mark.parametrize("kind", [Bare, Twice])
def test_of_what_is_no_plain_layer_only_the_weights_are_codes(kind, tmp_path):
    torch.manual_seed(0)
    module = kind().eval()
    found = in_torch(module, quantized(module, tmp_path, Plan()))
    with torch.no_grad():
        plain = module(torch.from_numpy(IMAGES)).numpy()
        close = found(torch.from_numpy(IMAGES)).numpy()
    right = outputs(tmp_path / "int8.onnx")
    assert np.abs(close - plain).mean() <= 1.5 * np.abs(right - plain).mean()
    assert sum(p.dtype == torch.int8 for p in found.parameters()) == 2
