"""Every mixer of the space `mixer`: its mathematics against loops, its deployed form, its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.deploy.export import export
from nas.networks.affnet import FrequencyNet, FrequencyNetwork, FrequencyStage
from nas.networks.hornet import Gated, GatedConvolution
from nas.networks.metaformer import MIXERS, MixerNet, MixerNetwork, MixerStage
from nas.networks.mixers.codenet import DeformableConvolution
from nas.networks.mixers.hyperzzw import HyperMixer
from nas.networks.mixers.spectrum import ConditionedConvolution, CosineMixer, Fourier, GlobalFilter
from nas.networks.mixers.tunable import TunableConvolution
from nas.networks.mixers.tvconv import VariantConvolution
from nas.networks.parts.log import Log
from nas.networks.repmlp import (
    InjectedPerceptron,
    PerceptronNet,
    PerceptronNetwork,
    PerceptronStage,
)
from nas.transforms.fold import fold


def unsettled(module: nn.Module) -> nn.Module:
    """With parameters and statistics that hide nothing."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return module.double().eval()


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (6, 9), (1, 2)])
def test_matrices_are_the_fourier_transform(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    plain, fixed = Fourier(), Fourier(size)
    for ours, theirs in zip(fixed.there(x), plain.there(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fixed.back(*fixed.there(x), size), x, rtol=1e-5, atol=1e-5)


def test_a_global_filter_is_a_circular_convolution() -> None:
    layer = unsettled(GlobalFilter(2, (4, 6)))
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64)
    unit = torch.zeros(1, 2, 4, 6, dtype=torch.float64)
    unit[:, :, 0, 0] = 1.0
    kernel = layer(unit)
    expected = sum(
        x[:, :, i, j, None, None] * kernel.roll((i, j), (-2, -1))
        for i in range(4)
        for j in range(6)
    )
    torch.testing.assert_close(layer(x), expected)
    smaller = layer(torch.randn(1, 2, 4, 4, dtype=torch.float64))  # interpolated
    assert smaller.shape == (1, 2, 4, 4)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_gated_convolution_by_its_recursion(order: int) -> None:
    layer = unsettled(GatedConvolution(8, Gated(order, 3, 0.5), (5, 5)))
    assert isinstance(layer, GatedConvolution)
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    widths = [8 // 2 ** (order - 1 - i) for i in range(order)]
    entered = layer.enter(x)
    y, q = entered[:, : widths[0]], layer.spatial(entered[:, widths[0] :]) * 0.5
    start = 0
    for i, width in enumerate(widths):
        if i:
            y = layer.widen[i - 1](y)
        y = y * q[:, start : start + width]
        start += width
    torch.testing.assert_close(layer(x), layer.leave(y))


def test_what_the_image_makes_of_the_kernel_moves_with_it() -> None:
    layer = unsettled(ConditionedConvolution(3))
    layer.condition.padding_mode = "circular"
    layer.condition._reversed_padding_repeated_twice = [1, 1, 1, 1]
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    moved = x.roll((3, 2), (-2, -1))
    torch.testing.assert_close(layer(moved), layer(x).roll((3, 2), (-2, -1)))


def test_a_cosine_spectrum_with_an_even_mask_scales_the_map() -> None:
    layer = unsettled(CosineMixer(8, (5, 6), blocks=4))
    with torch.no_grad():
        layer.excite.weight.zero_()
        layer.excite.bias.fill_(2.0)
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), 3 * x, rtol=1e-5, atol=1e-5)


def test_local_convolutions_are_injected_into_the_matrices() -> None:
    layer = unsettled(InjectedPerceptron((5, 4), 3, (1, 3)))
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    expected = layer(x).detach()
    merged = layer.deployed("layer", (5, 4), Log())
    assert len(merged.convs) == 0 and isinstance(merged.norm, nn.Identity)
    torch.testing.assert_close(merged(x), expected)


def test_kernels_of_places_by_loops() -> None:
    layer = unsettled(VariantConvolution(2, 3, (4, 5)))
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    weights = layer.emit(layer.maps).reshape(2, 9, 4, 5)
    padded = F.pad(x, (1, 1, 1, 1))
    expected = torch.stack([
        torch.stack([
            torch.stack([
                (padded[0, c, i : i + 3, j : j + 3].flatten() * weights[c, :, i, j]).sum()
                for j in range(5)
            ]) for i in range(4)
        ]) for c in range(2)
    ])[None]  # fmt: skip
    torch.testing.assert_close(layer(x), expected)


def test_a_tuned_convolution_is_one_convolution() -> None:
    layer = unsettled(TunableConvolution(4, 3, numbers=3, mapped=True))
    layer.setting.copy_(torch.tensor([0.2, 0.5, 0.3]))
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    expected = layer(x).detach()
    torch.testing.assert_close(layer.deployed("layer", (6, 6), Log())(x), expected)
    layer.train()
    assert not torch.equal(layer(x), layer(x)), "numbers are drawn in training"


@pytest.mark.parametrize("offsets", ["original", "bounded", "square", "square depthwise"])
def test_deformed_by_nothing_and_by_one_pixel(offsets: str) -> None:
    torch.manual_seed(0)
    layer = DeformableConvolution(4, 4, offsets).double()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    kernel = torch.unflatten(layer.weight, 2, (3, 3))
    torch.testing.assert_close(layer(x), F.conv2d(x, kernel, None, 1, 1, 1, layer.groups))
    with torch.no_grad():  # a pixel down and right for every tap; for a square, twice as far
        layer.offset.bias.fill_(1.0)
    if offsets.startswith("square"):
        expected = F.conv2d(x, kernel, None, 1, 2, 2, layer.groups)
    else:
        expected = F.conv2d(F.pad(x, (0, 2, 0, 2)), kernel, None, 1, 0)
        expected = F.conv2d(F.pad(x, (1, 2, 1, 2)), kernel, None, 1, 0)[..., 1:, 1:]
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        layer.offset.bias.fill_(100.0)
    far = layer.places(x).abs().max()
    assert far == (101.0 if offsets == "original" else 9.0)


def meta(mixer: str, kernel: int = 3) -> nn.Module:
    stage = MixerStage(1, 16, mixer, 3, kernel, blocks=4, offsets="square depthwise")
    return MixerNet(MixerNetwork(3, 16, 5, (stage,), 2))


def networks() -> dict[str, nn.Module]:
    filtered = tuple(FrequencyStage(1, 16 + 8 * i, 1 + (i > 0), i > 0) for i in range(2))
    connected = tuple(PerceptronStage(1, 8 * 2**i, 4, (1, 3)) for i in range(2))
    return {
        **{mixer: meta(mixer) for mixer in MIXERS},
        "gated, global filter": meta("gated", 0),
        "frequency": FrequencyNet(FrequencyNetwork(3, 5, filtered, 8, 1)),
        "perceptron": PerceptronNet(PerceptronNetwork(3, 16, 5, connected, 4)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MIXERS, "gated, global filter", "frequency", "perceptron"])
def test_what_is_deployed_is_what_was_trained_and_what_the_file_says(
    name: str, tmp_path: Path
) -> None:
    module = unsettled(networks()[name])
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    folded, _ = fold(module, (3, 16, 16))
    expected = module(x).detach()
    torch.testing.assert_close(
        folded(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
    )
    export(folded.float(), (3, 16, 16), tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"input": x.float().numpy()})
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=2e-3 * scale)


def test_a_hyper_kernel_is_kept_as_numbers() -> None:
    layer = unsettled(HyperMixer(4, (6, 6)))
    x: Tensor = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    expected = layer(x).detach()
    kept = layer.deployed("layer", (6, 6), Log())
    assert sum(p.numel() for p in kept.parameters()) == 4 * 36 + 4 * 9 + 8 * 4 + 4
    torch.testing.assert_close(kept(x), expected)
