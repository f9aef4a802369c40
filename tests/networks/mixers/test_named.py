"""Token mixers against plain convolutions, and which block gets which."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas import NasError
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.dilated import BRANCHES, DilatedMixer
from nas.networks.mixers.inception import InceptionMixer
from nas.networks.mixers.named import make_mixer
from nas.networks.mixers.partial import Partial
from nas.networks.mixers.stripe import StripeMixer
from nas.networks.plan import Stage


def test_inception_groups_in_their_published_order() -> None:
    torch.manual_seed(0)
    mixer = InceptionMixer(16, 11, 1 / 8)
    x = torch.randn(2, 16, 9, 9)
    y = mixer.eval()(x)
    assert mixer.sizes == [10, 2, 2, 2]
    assert torch.equal(y[:, :10], x[:, :10])
    for start, layer, kernel in (
        (10, mixer.square, (3, 3)),
        (12, mixer.row, (1, 11)),
        (14, mixer.column, (11, 1)),
    ):
        assert layer.kernel == kernel
        padding = (kernel[0] // 2, kernel[1] // 2)
        part = x[:, start : start + 2]
        wanted = F.conv2d(part, layer.weight, layer.bias, padding=padding, groups=2)
        assert torch.allclose(y[:, start : start + 2], wanted, atol=1e-6)


def test_dilated_branches_stay_within_their_kernel() -> None:
    for kernel, branches in BRANCHES.items():
        assert all(dilation * (small - 1) + 1 <= kernel for small, dilation in branches)
    mixer = DilatedMixer(4, 13)
    assert [(c.kernel[0], c.dilation) for c in mixer.convs] == [
        (13, 1), (5, 1), (7, 2), (3, 3), (3, 4), (3, 5),
    ]  # fmt: skip


def test_a_stripe_costs_ten_taps_a_length() -> None:
    mixer = StripeMixer(3, 51)
    assert sum(conv.weight.numel() for conv in mixer.convs) == 3 * (10 * 51 + 25)


def test_one_block_in_a_period_has_the_large_kernel() -> None:
    stage = Stage(depth=6, width=8, mixer="dilated", kernel=13, period=3)
    kinds = [type(make_mixer(stage, i, 8, False, None)) for i in range(6)]
    assert kinds == [DilatedMixer, Depthwise, Depthwise, DilatedMixer, Depthwise, Depthwise]


def test_a_share_of_the_channels_passes_unchanged() -> None:
    stage = Stage(depth=1, width=124, mixer="peripheral", kernel=51, fraction=3 / 8)
    mixer = make_mixer(stage, 0, 124, True, None)
    assert isinstance(mixer, Partial)
    assert (mixer.passed, mixer.convolved) == (78, 46)
    x = torch.randn(1, 124, 6, 6)
    assert torch.equal(mixer(x)[:, :78], x[:, :78])


def test_an_unknown_mixer() -> None:
    with pytest.raises(NasError, match="no mixer named 'stripes'"):
        make_mixer(Stage(depth=1, width=8, mixer="stripes"), 0, 8, True, None)
