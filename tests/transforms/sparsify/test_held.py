from __future__ import annotations

import torch
from torch import nn

from nas.transforms.sparsify.held import Held


def test_weight_gradient_and_memory_stay_zero() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4, bias=False)
    mask = torch.eye(4, dtype=torch.bool)
    held = Held([(layer.weight, lambda: mask)], dense=True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    held.begin(optimizer)
    held.hold()
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 4)).square().sum().backward()
        assert not layer.weight.grad[~mask].any() and layer.weight.grad[mask].any()
        assert held.gradients[layer.weight][~mask].all()  # what would be grown is known
        optimizer.step()
        held.hold()
        assert not layer.weight[~mask].any()
    state = optimizer.state[layer.weight]
    assert not state["exp_avg"][~mask].any() and state["exp_avg"][mask].all()
    assert not state["exp_avg_sq"][~mask].any()


def test_what_dies_is_forgotten() -> None:
    """Momentum from before a weight went would move it as soon as it is back."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 4, bias=False)
    mask = torch.ones(4, 4, dtype=torch.bool)
    held = Held([(layer.weight, lambda: mask)])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    held.begin(optimizer)
    layer(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    mask[0] = False
    held.hold()
    memory = optimizer.state[layer.weight]["momentum_buffer"]
    assert not memory[0].any() and memory[1:].any()
