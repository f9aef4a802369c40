"""The running average of a network's weights, which is often better than the last ones.

Polyak averaging with an exponential window, as is usual for image networks (Izmailov et al. 2018
and Tan & Le 2019 describe relatives of it).
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var")


class Averaged(nn.Module):
    """A network in training beside the average of its weights; in evaluation it is the average.

    Both are in its state, so a checkpoint of it resumes both. The window grows with the steps
    taken: after t steps the decay is at most (1 + t) / (10 + t).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = network
        self.average = deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """The network's answer in training, the average's in evaluation."""
        found: Tensor = (self.network if self.training else self.average)(inputs)
        return found

    @torch.no_grad()
    def follow(self, over: float = 0.0) -> None:
        """Moves the average towards the network, after a step of the optimizer.

        A weight that is exactly zero in the network was pruned, and is zero in the average at
        once. Of buffers only the statistics of norms are averaged; masks and counters are taken
        over.
        """
        self.steps += 1
        count = int(self.steps)
        decay = min(self.decay, (1 + count) / (10 + count))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay).masked_fill_(value == 0, 0.0)
        own = dict(self.average.named_buffers())
        for name, buffer in self.network.named_buffers():
            if name.rpartition(".")[2] in _STATISTICS:
                own[name].lerp_(buffer, 1 - decay)
            else:
                own[name].copy_(buffer)
