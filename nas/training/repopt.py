"""Gradient re-parameterisation: a plain network that learns as if it had branches.

RepOpt (Ding et al., arXiv 2205.15242): each weight's gradient is multiplied by what parallel
branches would have made of it (`nas.networks.repopt.RepOptBlock` knows by how much). Under SGD the
gradient itself is multiplied, before decay and momentum; under Adam's kin, to which a gradient's
size is nothing, the step is, without its decoupled decay. Either way the plain network then tracks
the branched one. Clipping by the norm of all gradients disturbs that: the plain network's norm is
not the branched one's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas.networks.repopt import RepOptBlock


def multiply_gradients(optimizer: torch.optim.Optimizer, module: nn.Module) -> int:
    """Makes every later step of the optimizer one of the branched network; returns of how many.

    Call it once, after the optimizer was made of the module's parameters.
    """
    blocks = [m for m in module.modules() if isinstance(m, RepOptBlock)]
    if isinstance(optimizer, torch.optim.SGD):
        _under_sgd(optimizer, blocks)
    elif blocks:
        _under_adam(optimizer, blocks)
    return len(blocks)


def _under_sgd(optimizer: torch.optim.Optimizer, blocks: list[RepOptBlock]) -> None:
    def before(*_: Any) -> None:
        for block in blocks:
            if block.conv.weight.grad is not None:
                block.conv.weight.grad.mul_(block.squared)

    if blocks:
        optimizer.register_step_pre_hook(before)


def _under_adam(optimizer: torch.optim.Optimizer, blocks: list[RepOptBlock]) -> None:
    decays = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    kept: list[Tensor] = []

    def before(*_: Any) -> None:
        kept[:] = [block.conv.weight.detach().clone() for block in blocks]

    def after(*_: Any) -> None:
        with torch.no_grad():
            for block, weight in zip(blocks, kept, strict=True):
                group = decays[id(block.conv.weight)]
                decayed = weight * (1.0 - float(group["lr"]) * float(group["weight_decay"]))
                moved = block.conv.weight - decayed
                block.conv.weight.copy_(decayed + block.first * moved)
        kept.clear()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
