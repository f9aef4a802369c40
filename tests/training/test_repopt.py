"""A plain network with multiplied gradients is, step by step, the network with branches."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from nas.networks.repopt import PlainNet, PlainNetwork, PlainStage, RepOptBlock, ScaledBlock
from nas.training.repopt import multiply_gradients

STAGES = (PlainStage(3, 8, 1), PlainStage(2, 8, 2), PlainStage(1, 12, 1, groups=2))


def pair(stages: tuple[PlainStage, ...] = STAGES) -> tuple[nn.Module, nn.Module]:
    """The branched network in float64, and the plain one that follows it."""
    torch.manual_seed(0)
    around = dict(stem_width=8, stem_stride=1)
    branched = PlainNet(PlainNetwork(3, 5, stages, branches="scaled", **around)).double()
    plain = PlainNet(PlainNetwork(3, 5, stages, branches="repopt", **around)).double()
    for name, block in branched.named_modules():
        if isinstance(block, ScaledBlock):
            with torch.no_grad():
                block.scale_large.uniform_(0.5, 1.5)
                block.scale_small.uniform_(0.5, 1.5)
            follower = plain.get_submodule(name)
            assert isinstance(follower, RepOptBlock)
            follower.follow(block)
            # its factors were searched before: in the training that is followed only the identity's
            # own one learns
            block.scale_large.requires_grad_(False)
            block.scale_small.requires_grad_(False)
    plain.head.load_state_dict(branched.head.state_dict())
    return branched, plain


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    for _ in range(count):
        inputs = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, 5, (6,), generator=generator)
        loss = nn.functional.cross_entropy(module(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()(x).detach()


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_it_tracks_the_branches_under_sgd(decay: float) -> None:
    options = dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=decay)
    branched, plain = pair()
    unlike = deepcopy(plain)
    torch.testing.assert_close(plain.eval()(torch.ones(1, 3, 8, 8).double()),
                               branched.eval()(torch.ones(1, 3, 8, 8).double()))  # fmt: skip
    branched.train(), plain.train()
    expected = steps(branched, torch.optim.SGD(branched.parameters(), **options))
    optimizer = torch.optim.SGD(plain.parameters(), **options)
    assert multiply_gradients(optimizer, plain) == 7
    found = steps(plain, optimizer)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    other = steps(unlike, torch.optim.SGD(unlike.parameters(), **options))
    assert (other - expected).abs().max() > 1e-2


def test_it_tracks_the_branches_under_adam() -> None:
    # without identities: a factor's step, one number a channel, is not that of the taps it scales
    options = dict(lr=1e-3, eps=1e-20, weight_decay=0.05)
    branched, plain = pair((PlainStage(1, 10, 1), PlainStage(1, 12, 2), PlainStage(1, 16, 1, 2)))
    branched.train(), plain.train()
    kept = [p for p in branched.parameters() if p.requires_grad]
    expected = steps(branched, torch.optim.AdamW(kept, **options), 8)
    optimizer = torch.optim.AdamW(plain.parameters(), **options)
    assert multiply_gradients(optimizer, plain) == 4
    found = steps(plain, optimizer, 8)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_network_without_such_blocks_is_left_alone() -> None:
    module = nn.Linear(2, 2)
    assert multiply_gradients(torch.optim.AdamW(module.parameters()), module) == 0
