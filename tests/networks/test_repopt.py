"""Whatever the branches, the plain network that is deployed computes the same."""

import pytest
import torch
from torch import Tensor, nn

from nas import TaskSpec
from nas.networks.repopt import PlainNet, PlainNetwork, PlainStage
from nas.transforms.fold import fold
from search_spaces.repopt import space

STAGES = (PlainStage(2, 8, 1, groups=2), PlainStage(2, 12, 2, groups=4))


@pytest.mark.parametrize("gate", ["none", "se"])
@pytest.mark.parametrize("branches", ["three", "pointwise", "one", "repopt", "scaled"])
def test_one_convolution_a_block_is_left(branches: str, gate: str) -> None:
    torch.manual_seed(0)
    network = PlainNetwork(3, 5, STAGES, 8, 1, branches, gate)
    module = PlainNet(network).double().eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5), nn.init.normal_(norm.bias)
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    folded, _ = fold(module, (3, 9, 9))
    x: Tensor = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(folded(x), module(x), rtol=1e-9, atol=1e-9)
    kinds = [m for m in folded.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(kinds) == 5 and not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_small_images_have_small_networks() -> None:
    task = TaskSpec("digits", (3, 32, 32), 10)
    at = space.at(task)
    assert at.check(at.preset("repvgg_a0").choices) == []
    smallest = at.build(at.repair({}).choices, task)
    assert sum(p.numel() for p in smallest.parameters()) < 150_000
