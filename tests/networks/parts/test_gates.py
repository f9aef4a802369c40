"""Gates and norms against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas import NasError
from nas.networks.parts.activations import make_activation
from nas.networks.parts.gates import ResponseNorm, SqueezeExcite
from nas.networks.parts.norms import ChannelNorm, make_norm


@pytest.mark.parametrize("training", [True, False])
def test_response_norm_is_its_formula(training: bool) -> None:
    torch.manual_seed(0)
    layer = ResponseNorm(3).double().train(training)
    nn.init.normal_(layer.gain)
    nn.init.normal_(layer.shift)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = layer(x)
    for b in range(2):
        norms = [float((x[b, c] ** 2).sum()) ** 0.5 for c in range(3)]
        for c in range(3):
            n = norms[c] / (sum(norms) / 3 + 1e-6)
            wanted = x[b, c] * (layer.gain[c] * n + 1) + layer.shift[c]
            assert torch.allclose(y[b, c], wanted, rtol=1e-10)


def test_response_norm_trains_through_dead_channels() -> None:
    layer = ResponseNorm(3)
    x = torch.randn(2, 3, 4, 4)
    x[:, 1] = 0
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    kept = ResponseNorm(3).eval()
    again = x.detach().requires_grad_()
    kept(again).sum().backward()
    assert torch.allclose(x.grad, again.grad)
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())


def test_response_norm_has_the_gradients_of_its_formula() -> None:
    torch.manual_seed(0)
    layer = ResponseNorm(3).double()
    nn.init.normal_(layer.gain)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    inputs = (x, layer.gain, layer.shift)

    def quickly(*given: torch.Tensor) -> torch.Tensor:
        names = dict(zip(("gain", "shift"), given[1:], strict=True))
        return torch.func.functional_call(layer, names, given[0])

    assert torch.autograd.gradcheck(quickly, inputs)
    assert torch.autograd.gradgradcheck(quickly, inputs)
    seen = torch.autograd.grad(layer(x).pow(3).sum(), inputs)
    plain = torch.autograd.grad(layer.eval()(x).pow(3).sum(), inputs)
    for ours, theirs in zip(seen, plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9)


def test_response_norm_keeps_maps_of_fewer_bits() -> None:
    torch.manual_seed(0)
    layer = ResponseNorm(3)
    nn.init.normal_(layer.gain)
    x = torch.randn(2, 3, 4, 5)
    y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), rtol=0.03, atol=0.03)


def test_squeeze_and_excitation_scales_whole_channels() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcite(8, 0.25)
    assert layer.squeeze.out_channels == 2
    x = torch.rand(2, 8, 3, 3) + 1
    ratio = layer(x) / x
    assert torch.allclose(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert 0 < float(ratio.detach().min()) < float(ratio.detach().max()) < 1


def test_channel_norm_is_layer_norm_over_channels() -> None:
    torch.manual_seed(0)
    layer, reference = ChannelNorm(6), nn.LayerNorm(6, eps=1e-6)
    nn.init.normal_(layer.weight)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 3, 4)
    assert torch.allclose(layer(x)[1, :, 2, 3], reference(x[1, :, 2, 3]), atol=1e-6)


def test_unknown_names() -> None:
    with pytest.raises(NasError, match="no norm named 'bacth'"):
        make_norm("bacth", 4)
    with pytest.raises(NasError, match="no activation named 'gelo'"):
        make_activation("gelo")
