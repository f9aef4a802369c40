from __future__ import annotations

import pytest
import torch
from adapter_networks import adapt, far, inputs, pretrained
from peculiar_layers import Standardised
from torch import nn
from torch.nn import functional as F

from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.pruning import Pruned, kept, remaining


@pytest.mark.parametrize("name", ["convolutions", "fused", "torch"])
@pytest.mark.parametrize("density", [0.3, 0.5, 0.75])
def test_masked_rows_and_columns_are_really_removed(name: str, density: float) -> None:
    tried = adapt(pretrained(name), Plan("pruning", density=density))
    deployed, report = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    if name == "convolutions":
        count = remaining(8, density)
        assert deployed[1].conv1.weight.shape == (count, 8, 3, 3)
        assert deployed[1].conv2.weight.shape == (8, count, 3, 3)
        assert deployed[1].conv1.bias.shape == (count,)  # of the norm that was cut and folded
    else:
        assert deployed.blocks[0].mlp[0].out_features == remaining(32, density)
    assert sum("channels removed" in line for line in report.touched) == 3


def test_a_masked_channels_bias_and_norm_do_not_reach_the_reader() -> None:
    """The mask on the columns is what makes removal exact, whatever a norm makes of zeros."""
    network = pretrained("convolutions")
    network[1].norm1.bias.add_(3.0)
    tried = adapt(network, Plan("pruning", density=0.3))
    assert far(tried.deploy()[0](inputs()), tried.adapted(inputs())) < 1e-9


def test_of_a_convolution_the_central_tap_is_updated() -> None:
    weight = torch.randn(6, 4, 3, 3).double()
    part = Pruned(weight, 2, torch.ones(6), axis=0).double()
    update = part(weight) - weight
    assert torch.allclose(update[:, :, 1, 1], part.columns @ part.rows)
    update[:, :, 1, 1] = 0
    assert not bool(update.any())
    x = torch.randn(2, 4, 8, 8).double()  # two branches, as in training by the authors
    branch = F.conv2d(x, (part.columns @ part.rows)[:, :, None, None])
    assert far(F.conv2d(x, part(weight), padding=1), F.conv2d(x, weight, padding=1) + branch) < 1e-9


def test_channels_that_weigh_most_stay() -> None:
    maker, reader = nn.Linear(4, 20), nn.Linear(20, 4)
    maker.weight.zero_()
    reader.weight.zero_()
    maker.weight[3] = 5.0
    reader.weight[:, 7] = 9.0
    mask = kept(maker, reader, 0.1)
    assert mask.nonzero().flatten().tolist() == [3, 7]


def test_it_begins_next_to_nothing_and_trains_biases() -> None:
    part = Pruned(torch.randn(16, 16), 4, torch.ones(16), axis=0)
    assert float(part.columns.abs().max()) <= 1e-4
    module = adapt(pretrained("fused"), Plan("pruning")).adapted
    assert module.network.blocks[0].mlp[0].bias.requires_grad
    assert not module.network.blocks[0].attn.qkv.bias.requires_grad


def test_layers_are_pruned_on_one_side_only() -> None:
    chain = nn.Sequential(
        nn.Flatten(), nn.Linear(768, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
        nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5),
    ).double()  # fmt: skip
    tried = adapt(chain, Plan("pruning"))
    assert ("3", "its neighbour's channels are pruned already") in tried.prepared.skipped
    assert far(tried.deploy()[0](inputs()), tried.adapted(inputs())) < 1e-9


@pytest.mark.parametrize("which", ["conv1", "conv2"])
def test_a_layer_of_its_own_kind_is_not_cut(which: str) -> None:
    """Fewer inputs have another mean and deviation."""
    network = pretrained("convolutions")
    setattr(network[1], which, Standardised(8, 8, 3, 1, 1, bias=False).double())
    tried = adapt(network, Plan("pruning", density=0.5))
    deployed, report = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    assert getattr(deployed[1], which).weight.shape == (8, 8, 3, 3)
    assert sum("channels removed" in line for line in report.touched) == 2
