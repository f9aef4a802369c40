from __future__ import annotations

import torch
from adapter_networks import adapt, pretrained
from torch import nn

from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.stored import task_bytes


def test_of_a_whole_network_all_that_training_moves() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    # weights 12 + 4, norm 4 + 4 and its two statistics 4 + 4, head 8 + 2, in 4 bytes each
    assert task_bytes(network) == 4 * (16 + 16 + 10)
    assert task_bytes(network.double()) == 8 * (16 + 16 + 10)


def test_of_adapters_what_is_trained_and_no_statistics() -> None:
    module = adapt(pretrained("convolutions"), Plan("lora")).adapted.float()
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert task_bytes(module) == 4 * count
    head = adapt(pretrained("convolutions"), Plan("head")).adapted.float()
    assert task_bytes(head) == 4 * (16 * 5 + 5)


def test_what_follows_from_the_shared_weights_or_a_seed_is_not_stored() -> None:
    for method in ("snnk", "sara", "pruning"):
        module = adapt(pretrained("fused"), Plan(method)).adapted.float()
        held = sum(t.numel() for t in module.state_dict().values())
        count = sum(p.numel() for p in module.parameters() if p.requires_grad)
        assert task_bytes(module) == 4 * count < 4 * held


def test_shared_factors_are_counted_once() -> None:
    module = adapt(pretrained("fused"), Plan("ssf")).adapted.float()
    names = [n for n in module.state_dict() if n.endswith("gamma")]
    assert len(names) == 2 * len(set(n.split(".parametrizations")[0] for n in names))
    gammas = sum(module.state_dict()[n].numel() for n in names if ".parametrizations.weight" in n)
    assert task_bytes(module) == 4 * (2 * gammas + 85)
    assert torch.get_default_dtype() == torch.float32
