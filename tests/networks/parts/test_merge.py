"""The algebra of merging, piece by piece, in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nas.networks.parts.log import Log
from nas.networks.parts.merge import (
    Parallel,
    affine,
    centred,
    dilate,
    fold_backward,
    fold_forward,
    scale_input,
    scale_output,
)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation and float64, every number of it drawn."""
    with torch.no_grad():
        for tensor in module.double().eval().parameters():
            tensor.normal_()
        for name, tensor in module.named_buffers():
            if name.endswith("running_mean"):
                tensor.normal_()
            elif name.endswith("running_var"):
                tensor.uniform_(0.3, 3)
    return module


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_a_batch_norm_is_an_affine_map() -> None:
    norm = randomised(nn.BatchNorm2d(5))
    scale, shift = affine(norm)
    x = drawn(2, 5, 3, 3)
    assert torch.allclose(norm(x), x * scale[:, None, None] + shift[:, None, None], rtol=1e-12)


def test_zeros_between_taps_are_dilation() -> None:
    weight, x = drawn(4, 1, 3, 3), drawn(1, 4, 9, 9)
    dense = dilate(weight, 3)
    assert dense.shape[-2:] == (7, 7)
    wanted = F.conv2d(x, weight, padding=3, dilation=3, groups=4)
    assert torch.allclose(F.conv2d(x, dense, padding=3, groups=4), wanted)


def test_kernels_add_around_their_centres() -> None:
    small, tall, x = drawn(4, 1, 3, 3), drawn(4, 1, 7, 1), drawn(1, 4, 9, 9)
    total = centred([small, tall])
    assert total.shape[-2:] == (7, 3)
    wanted = F.conv2d(x, small, padding=1, groups=4) + F.conv2d(x, tall, padding=(3, 0), groups=4)
    assert torch.allclose(F.conv2d(x, total, padding=(3, 1), groups=4), wanted)


def test_scaling_outputs() -> None:
    scale, shift = drawn(6), drawn(6)
    convs = [nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1, bias=False)]
    for module in (convs[0], convs[1], Parallel(convs)):
        randomised(module)
        x = drawn(2, 6, 4, 4)
        wanted = module(x) * scale[:, None, None] + shift[:, None, None]
        assert scale_output(module, scale, shift)
        assert torch.allclose(module(x), wanted, rtol=1e-10)
        scaled = module(x) * 2
        assert scale_output(module, torch.full((6,), 2.0), None)
        assert torch.allclose(module(x), scaled, rtol=1e-10)
    assert not scale_output(nn.ReLU(), scale, shift)
    assert not scale_output(nn.Linear(6, 4), scale, shift)


def test_scaling_inputs() -> None:
    scale, shift = drawn(6), drawn(6)
    for module, shape in (
        (nn.Conv2d(6, 3, 2, stride=2, bias=False), (2, 6, 4, 4)),
        (nn.Linear(6, 3), (2, 6)),
    ):
        randomised(module)
        x = drawn(*shape)
        view = (-1, *[1] * (len(shape) - 2))
        wanted = module(x * scale.view(view) + shift.view(view))
        assert scale_input(module, scale, shift)
        assert torch.allclose(module(x), wanted, rtol=1e-10)
    for inexact in (nn.Conv2d(6, 3, 3, padding=1), nn.Conv2d(6, 6, 1, groups=2), nn.Linear(5, 3)):
        assert not scale_input(inexact, scale, shift)


def test_refusals_say_why() -> None:
    log = Log()
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
    assert not fold_backward("a", nn.Identity(), norm, log)
    assert not fold_forward("b", norm, conv, log)
    assert not fold_forward("c", nn.GroupNorm(2, 4), conv, log)
    assert [path for path, _ in log.skipped] == ["a", "b", "c"]
    assert [why for _, why in log.skipped] == [
        "Identity before it has no weight for every channel",
        "Conv2d after it cannot take it: not linear, padded or grouped",
        "GroupNorm depends on the input",
    ]
