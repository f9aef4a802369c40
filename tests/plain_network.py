"""A network with a bit of everything, and the space of it alone."""

from __future__ import annotations

from torch import nn

from nas.core.space import SearchSpace


def network(choices: object, task: object) -> nn.Module:
    """Plain, depthwise and pointwise convolutions, norms, two activations, a head."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.Conv2d(16, 32, 1), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


PLAIN = SearchSpace("plain", [], network)
