"""The mean of each map against torch's, whichever way the map lies."""

from __future__ import annotations

import pytest
import torch

from nas.networks.parts.pooling import SpatialMean, spatial_mean

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keepdim", [False, True])
def test_values_and_gradients_are_torchs(layout: torch.memory_format, keepdim: bool) -> None:
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    mean, right = spatial_mean(x, keepdim), x.mean((2, 3), keepdim=keepdim)
    assert torch.equal(mean, right)
    weights = torch.randn_like(right)
    (got,), (wanted,) = (torch.autograd.grad((m * weights).sum(), x) for m in (mean, right))
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=0)
    assert got.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_gradients(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 3, 2, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: spatial_mean(t).square(), x)
    assert torch.autograd.gradgradcheck(lambda t: spatial_mean(t).square(), x)


def test_each_example_of_a_batch_has_its_own_gradient() -> None:
    x = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    rows = torch.autograd.grad(spatial_mean(x), x, torch.randn(6, 4, 3), is_grads_batched=True)[0]
    assert rows.shape == (6, 4, 3, 5, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_functions_of_it_may_be_transformed(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64).contiguous(memory_format=layout)

    def squares(t: torch.Tensor) -> torch.Tensor:
        return spatial_mean(t).square().sum()

    hessian = torch.func.hessian(squares)(x).reshape(24, 24)
    same = torch.kron(torch.eye(6, dtype=torch.float64), torch.full((4, 4), 2 / 16.0).double())
    torch.testing.assert_close(hessian, same)
    x.requires_grad_()
    _, tangent = torch.autograd.functional.jvp(spatial_mean, x, torch.ones_like(x))
    torch.testing.assert_close(tangent, torch.ones_like(tangent))


def test_a_traced_layer_is_one_operator() -> None:
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    traced = torch.export.export(SpatialMean().eval(), (x,))
    names = [str(n.target) for n in traced.graph.nodes if n.op == "call_function"]
    assert names == ["aten.mean.dim"]
