"""Adapters that work on what a layer takes or returns: a wrapper, and what goes into it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nas.transforms.adapt.adapted import Part
from nas.transforms.adapt.seen import Filters


class Beside(nn.Module):
    """A frozen layer with parts before, behind or parallel to it.

    Args:
        layer: the frozen one.
        before, behind: map what the layer takes, or returns, to the same shape.
        parallel: maps what the layer takes to what is added to what it returns.
    """

    def __init__(
        self,
        layer: nn.Module,
        before: Part | None = None,
        behind: Part | None = None,
        parallel: Part | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.before = before
        self.behind = behind
        self.parallel = parallel

    @property
    def weight(self) -> Any:
        """The layer's: a network may ask it for its type."""
        return self.layer.weight

    @property
    def bias(self) -> Any:
        """The layer's."""
        return self.layer.bias

    def forward(self, x: Tensor) -> Any:
        """What the layer returns, adapted."""
        y = self.layer(x if self.before is None else self.before(x))
        if self.parallel is not None:
            y = y + self.parallel(x)
        return y if self.behind is None else self.behind(y)


def matrix(inputs: int, outputs: int, maps: bool, stride: Any = 1) -> nn.Conv2d | nn.Linear:
    """A linear map of channels: of the last axis, or of maps `(B, C, H, W)`."""
    if maps:
        return nn.Conv2d(inputs, outputs, 1, stride=stride)
    return nn.Linear(inputs, outputs)


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with weight and bias at zero: what it is added to is unchanged at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def channels_last_axis(layer: nn.Module, output: tuple[int, ...]) -> bool:
    """Whether a layer's channels are the last axis of what it returns.

    The layer says so, not the sizes: a map can be as high and wide as it has channels.
    """
    by_map = isinstance(layer, Filters | nn.BatchNorm2d | nn.GroupNorm)
    return not (by_map and len(output) == 4)
