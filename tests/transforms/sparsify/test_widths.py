from __future__ import annotations

import pytest
import torch
from transforms.sparsify.conftest import examples, residual

from nas.transforms.sparsify import Plan
from nas.transforms.sparsify.groups import Trace
from nas.transforms.sparsify.plan import ALLOCATIONS
from nas.transforms.sparsify.widths import Budget, importance, multiple, rounded, widths
from nas.transforms.stages import Given


def groups_of(module):
    found, _ = Trace(module, examples(2)).groups()
    return found


def test_the_parameters_at_any_width_are_those_of_the_smaller_network() -> None:
    module = residual()
    groups = groups_of(module)
    budget = Budget.of(module, groups)
    whole = sum(p.numel() for p in module.parameters())
    assert budget.params([g.count for g in groups]) == whole
    kept = [g.count // 4 * 3 for g in groups]
    alive = {g.root: torch.arange(g.count) < w for g, w in zip(groups, kept, strict=True)}
    Trace(module, examples(2)).remove(alive)
    assert budget.params(kept) == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("removed", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_every_allocation_spends_what_uniform_leaves(
    given: Given, allocation: str, removed: float
) -> None:
    module = residual()
    groups = groups_of(module)
    budget = Budget.of(module, groups)
    even = [rounded(g.count, 1 - removed) for g in groups]
    found = widths(module, groups, Plan("channels", removed, allocation), given)
    assert budget.params(found) <= budget.params(even)
    # one multiple more in any group would be too much, or the group is whole
    for i, group in enumerate(groups):
        wider = list(found)
        wider[i] = min(group.count, wider[i] + multiple(group.count))
        grown = budget.params(wider) > 0.6 * budget.params(even)
        assert grown or wider[i] == found[i]
    assert all(w % multiple(g.count) == 0 for w, g in zip(found, groups, strict=True))


def test_unimportant_channels_go_first_wherever_they_are(given: Given) -> None:
    module = residual()
    groups = groups_of(module)
    inner = next(g for g in groups if g.count == 32)
    with torch.no_grad():  # three quarters of the inner channels do next to nothing
        for name in ("inner.weight", "inner_norm.weight"):
            dict(module.named_parameters())[name][8:] *= 1e-3
        module.outer.weight[:, 8:] *= 1e-3
    scores = importance(module, inner)
    assert scores[:8].min() > 100 * scores[8:].max()
    for allocation in ("global", "rd"):
        found = widths(module, groups, Plan("channels", 0.25, allocation), given)
        shares = {g.count: w / g.count for w, g in zip(found, groups, strict=True)}
        assert shares[32] < shares[16], allocation


def test_precrop_crops_the_largest_layers_most(given: Given) -> None:
    """No layer becomes a bottleneck: the wide inner group gives more than the narrow outer one."""
    module = residual()
    groups = groups_of(module)
    found = widths(module, groups, Plan("channels", 0.5, "precrop"), given)
    shares = {g.count: w / g.count for w, g in zip(found, groups, strict=True)}
    assert shares[32] <= shares[16]


@pytest.mark.parametrize("count", [3, 8, 24, 64, 100, 320])
def test_widths_are_multiples_and_never_none(count: int) -> None:
    for share in (0.01, 0.25, 0.5, 0.9):
        kept = rounded(count, share)
        assert 1 <= kept <= count and kept % multiple(count) == 0
    assert rounded(count, 1.0) == count
