from __future__ import annotations

import pytest
import torch
from adapter_networks import adapt, far, inputs, pretrained
from torch import nn

from nas.transforms.adapt.adapting import added
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.sara import PENALTY, SmallEntries, penalised


def entries(module: nn.Module) -> list[SmallEntries]:
    return [m for m in module.modules() if isinstance(m, SmallEntries)]


def test_the_smallest_entries_and_no_others_move() -> None:
    tried = adapt(pretrained("fused"), Plan("sara", share=0.1), move=1.0)
    deployed, _ = tried.deploy()
    for name, before in tried.before.named_parameters():
        moved = deployed.get_parameter(name) != before
        if before.dim() >= 2 and "head" not in name and name not in ("classes", "places"):
            assert int(moved.sum()) == round(0.1 * before.numel())
            assert float(before[moved].abs().max()) <= float(before[~moved].abs().min())
            assert bool((before[moved] < 0).any())  # their signs are not lost
        elif "head" not in name:
            assert not bool(moved.any())


def test_only_the_entries_are_counted_as_trained() -> None:
    module = adapt(pretrained("fused"), Plan("sara", share=0.2)).adapted
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    assert all(p.dim() == 1 or "head" in n for n, p in trained.items())
    assert sum(len(m.values) for m in entries(module)) + 85 == sum(
        p.numel() for p in trained.values()
    )


def test_half_way_what_has_grown_is_frozen_for_good() -> None:
    plan = Plan("sara", share=0.2, penalty=False)
    module = adapt(pretrained("fused"), plan, move=0.0).adapted
    after = added(module, plan).after
    one = entries(module)[1]
    grown = torch.zeros(len(one.values), dtype=torch.bool)
    grown[::3] = True
    one.values[grown] = 10.0
    after(0.49)
    assert not bool(one.frozen.any())
    after(0.5)
    assert torch.equal(one.frozen, grown)
    one.values.add_(1.0)  # an optimizer's momentum goes on
    assert torch.equal(one.added()[grown], torch.full_like(one.added()[grown], 10.0))
    assert bool((one.added()[~grown] == 1.0).all())
    after(0.9)  # and is not thawed, nor are more frozen
    assert torch.equal(one.frozen, grown)
    with torch.enable_grad():
        module(inputs()).square().sum().backward()
    assert not bool(one.values.grad[grown].any()) and bool(one.values.grad[~grown].any())


def test_what_is_frozen_is_kept_with_a_checkpoint() -> None:
    plan = Plan("sara", share=0.2)
    one = adapt(pretrained("fused"), plan, move=1.0)
    added(one.adapted, plan).after(0.7)
    torch.manual_seed(7)
    two = adapt(one.before, plan, move=0.0)
    two.adapted.load_state_dict(one.adapted.state_dict())
    assert torch.equal(one.adapted(inputs()), two.adapted(inputs()))
    assert bool(two.adapted.notes.halved) and any(
        bool(m.frozen.any()) for m in entries(two.adapted)
    )


def test_the_rank_of_what_is_trained_costs() -> None:
    module = adapt(pretrained("fused"), Plan("sara", share=0.5)).adapted
    one = entries(module)[0]
    shape = torch.Size((16, 48))
    by_hand = torch.zeros(shape.numel()).double()
    by_hand[one.places] = one.start + one.values
    assert torch.equal(one.trained(shape), by_hand.view(shape))

    loss = penalised(lambda module, inputs, target: torch.zeros(()).double(), module)
    torch.manual_seed(0)
    found = {float(loss(module, inputs(), None)) for _ in range(40)}
    norms = {
        PENALTY * float(torch.linalg.svdvals(m.trained(s).flatten(1)).sum())
        for m, s in zip(entries(module), shapes(module), strict=True)
        if min(s[0], s[1:].numel()) >= 16
    }
    assert len(found) > 3  # a layer drawn anew each time
    assert all(any(f == pytest.approx(n) for n in norms) for f in found)


def shapes(module: nn.Module) -> list[torch.Size]:
    return [
        stack.original.shape
        for layer in module.modules()
        if hasattr(layer, "parametrizations")
        for stack in layer.parametrizations.values()
    ]


def test_it_merges_into_the_weights() -> None:
    tried = adapt(pretrained("convolutions"), Plan("sara"), move=1.0)
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
