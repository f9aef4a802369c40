from __future__ import annotations

import torch
from adapter_networks import adapt, far, inputs, pretrained

from nas.transforms.adapt.difffit import Factor
from nas.transforms.adapt.plan import Plan


def test_a_factor_multiplies_what_a_branch_returns() -> None:
    tried = adapt(pretrained("fused"), Plan("difffit"), move=0.0)
    network = tried.adapted.network
    branches = {}
    for name, block in enumerate(network.blocks):
        block.mlp.register_forward_hook(lambda m, i, o, name=name: branches.update({name: o}))
    network(inputs())
    before = dict(branches)
    for module in network.modules():
        if isinstance(module, Factor):
            module.gamma.fill_(1.0)
    factor = network.blocks[0].mlp[2].parametrizations.weight[0].factor
    factor.gamma.fill_(2.5)
    network(inputs())
    assert far(branches[0], 2.5 * before[0]) < 1e-12


def test_biases_norms_and_factors_are_trained_and_nothing_else() -> None:
    module = adapt(pretrained("fused"), Plan("difffit")).adapted
    trained = {n.removeprefix("network.") for n, p in module.named_parameters() if p.requires_grad}
    kinds = {n.rpartition(".")[2] for n in trained if "norm" not in n and "head" not in n}
    assert kinds == {"bias", "original", "gamma"}
    originals = [n for n in trained if n.endswith("original")]
    assert all("parametrizations.bias" in n for n in originals)
    assert "norm.weight" in trained and "places" not in trained
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    # per block: biases 48 + 16 + 32 + 16, two norms of 32, two factors; patches, norm, head
    assert count == 3 * (112 + 64 + 2) + 16 + 32 + 85


def test_an_ends_factor_goes_with_its_norm() -> None:
    tried = adapt(pretrained("convolutions"), Plan("difffit"))
    norm = tried.adapted.network[1].norm2
    factor = norm.parametrizations.weight[0].factor
    assert factor is norm.parametrizations.bias[0].factor
    assert torch.equal(norm.weight, norm.parametrizations.weight.original * factor.gamma)
