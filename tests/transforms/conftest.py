"""Networks with random, non-trivial statistics: fresh ones hide errors in merging."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nas.networks.mixers.peripheral import PeripheralMixer, PositionalTable
from nas.networks.parts.gates import ResponseNorm
from nas.networks.parts.residual import LayerScale


@pytest.fixture(autouse=True)
def repeatable() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """`randomised(module)`: every statistic and parameter drawn, float64, eval mode."""
    return randomise


def randomise(module: nn.Module) -> nn.Module:
    module.double().eval()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.3, 3)
            if isinstance(layer, LayerScale | ResponseNorm | PositionalTable | PeripheralMixer):
                for parameter in layer.parameters(recurse=False):
                    parameter.normal_(0, 0.5)
            elif hasattr(layer, "weight") and isinstance(layer.weight, torch.Tensor):
                weight = layer.weight
                if weight.dim() == 1:
                    weight.normal_(1, 0.3)
                elif isinstance(weight, nn.Parameter):
                    weight.normal_(0, weight[0].numel() ** -0.5)
                if isinstance(getattr(layer, "bias", None), nn.Parameter):
                    layer.bias.normal_(0, 0.5)
    return module
