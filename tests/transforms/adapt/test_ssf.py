from __future__ import annotations

import pytest
import torch
from adapter_networks import adapt, far, inputs, pretrained
from torch import nn

from nas.networks.mixers.dilated import DilatedMixer
from nas.networks.mixers.smallkernel import SmallKernelMixer
from nas.networks.mixers.stripe import StripeMixer
from nas.networks.repmlp import InjectedPerceptron
from nas.networks.repopt import BranchedBlock
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.ssf import scale_shift
from nas.transforms.adapt.weights import merge


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 8), (2, 5, 6)),
        (nn.Linear(6, 8, bias=False), (2, 6)),
        (nn.Conv2d(6, 8, 3, padding=1), (2, 6, 8, 8)),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), (2, 8, 8, 8)),
        (nn.LayerNorm(8), (2, 8, 8, 8)),  # as high and wide as there are channels
        (nn.BatchNorm2d(8), (2, 8, 8, 8)),
        (nn.GroupNorm(2, 8), (2, 8, 4, 4)),
    ],
)
def test_what_a_layer_returns_is_scaled_and_shifted(layer: nn.Module, shape: tuple) -> None:
    layer = layer.double().eval()
    x = torch.randn(shape).double()
    y = layer(x)
    scale_shift(layer)
    factors = layer.parametrizations.weight[0].factors
    nn.init.normal_(factors.gamma)
    nn.init.normal_(factors.beta)
    last = isinstance(layer, nn.Linear | nn.LayerNorm)
    form = (-1,) if last else (1, -1, 1, 1)
    expected = y * factors.gamma.view(form) + factors.beta.view(form)
    assert far(layer(x), expected) < 1e-12
    merge(layer)
    assert far(layer(x), expected) < 1e-9 and not hasattr(layer, "parametrizations")


def test_it_begins_near_one_and_zero() -> None:
    layer = nn.Linear(4, 4000)
    scale_shift(layer)
    factors = layer.parametrizations.weight[0].factors
    assert float(factors.gamma.mean()) == pytest.approx(1, abs=0.002)
    assert float(factors.gamma.std()) == pytest.approx(0.02, rel=0.05)
    assert float(factors.beta.mean()) == pytest.approx(0, abs=0.002)


def test_before_a_padded_convolution_it_would_not_merge_at_the_border() -> None:
    """Why nothing is put there: exact inside, wrong at the edge."""
    conv = nn.Conv2d(4, 4, 3, padding=1).double()
    gamma, beta = torch.randn(4).double(), torch.randn(4).double()
    x = torch.randn(1, 4, 8, 8).double()
    meant = conv(x * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1))
    conv.bias.add_((conv.weight * beta.view(1, -1, 1, 1)).sum((1, 2, 3)))
    conv.weight.mul_(gamma.view(1, -1, 1, 1))
    wrong = (conv(x) - meant).abs()
    assert float(wrong[..., 1:-1, 1:-1].max()) < 1e-12
    assert float(wrong.max()) > 5e-2


def test_norms_are_a_site_of_their_own() -> None:
    whole = adapt(pretrained("fused"), Plan("ssf")).prepared
    less = adapt(pretrained("fused"), Plan("ssf", norms=False)).prepared
    assert len(whole.touched) - len(less.touched) == 7
    assert {p for p, why in less.skipped if why == "norms are left frozen"} == {
        "norm", *(f"blocks.{i}.norm{n}" for i in range(3) for n in (1, 2))
    }  # fmt: skip
    assert inputs().dtype == torch.float64


BRANCHED = {
    "small kernel": lambda: SmallKernelMixer(8, 7, 3),
    "dilated": lambda: DilatedMixer(8, 9),
    "stripe": lambda: StripeMixer(8, 7),
    "branched": lambda: BranchedBlock(8, 8, 1, 1, "none", True),
    "perceptron": lambda: InjectedPerceptron((16, 16), 8, (3,)),
}


@pytest.mark.parametrize("name", BRANCHED)
def test_branches_without_biases_merge_with_those_that_they_were_given(name: str) -> None:
    """The branches' norms come after the shift, so their merging must take it in."""
    mixer = BRANCHED[name]()
    network = nn.Sequential(
        nn.Conv2d(3, 8, 1), mixer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    for weight in (p for p in mixer.parameters() if p.ndim > 1):
        weight.normal_(std=0.3)
    tried = adapt(network.double().eval(), Plan("ssf"))
    deployed, _ = tried.deploy()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in deployed.modules())
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-12
