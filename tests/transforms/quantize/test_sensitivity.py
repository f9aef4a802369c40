"""Traces against the exact Hessian where the two are the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.transforms.quantize.sensitivity import traces


def test_of_linear_classifiers_it_is_the_hessians_trace_itself() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 4).double(), torch.randn(12, 5, dtype=torch.float64)
    target = torch.randint(0, 4, (12,))  # the Hessian of a linear softmax does not depend on it

    def loss(weight: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(x, weight, layer.bias), target)

    whole = torch.autograd.functional.hessian(loss, layer.weight.detach())
    exact = float(torch.as_tensor(whole).reshape(20, 20).trace())
    found = traces(layer, [layer.weight], x, probes=4000)
    assert found[0] == pytest.approx(exact, rel=0.05)


def test_of_any_other_output_it_is_that_of_squared_errors() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, 1, bias=False).double(), torch.randn(4, 2, 3, 3).double()
    exact = 3 * float(x.square().sum()) / 4  # each of three outputs is a sum of weighted inputs
    assert traces(layer, [layer.weight], x, probes=2000)[0] == pytest.approx(exact, rel=0.05)


def test_copies_of_weights_tell_nothing() -> None:
    layer = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="none of these weights is a parameter"):
        traces(layer, [layer.weight.detach()], torch.randn(2, 4))


def test_it_is_repeatable_and_leaves_the_network_alone() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    module[0].weight.requires_grad_(False)
    weights = [module[0].weight, module[3].weight]
    x = torch.randn(16, 4)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert traces(module, weights, x, 1) == traces(module, weights, x, 1)
    assert module.training and not module[0].weight.requires_grad and weights[1].grad is None
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
