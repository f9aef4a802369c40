"""Bottleneck adapters: down to a few channels, an activation, and up again.

Serial, y + Up(relu(Down y)), behind the end of every residual branch (Houlsby et al. 2019, arXiv
1902.00751). Parallel, f(x) + s Up(relu(Down x)), beside that layer (He et al. 2022, arXiv
2110.04366; AdaptFormer). Up is zero at first. s = 1 is our choice. They do not merge: the
activation keeps them in the deployed form, with their cost.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas.networks.mixers.patterned import Patterned
from nas.transforms.adapt.adapted import Part
from nas.transforms.adapt.beside import Beside, channels_last_axis, matrix, zeroed
from nas.transforms.adapt.seen import Layer

Form = Literal["serial", "parallel"]


class Bottleneck(Part):
    """Up(relu(Down x)), plus x where it is serial.

    Args:
        inputs, outputs: channels of what it takes and returns.
        hidden: channels between.
        maps: whether they are maps `(B, C, H, W)`.
        stride: of the convolution it stands beside.
        drop: share of the hidden channels' values that training leaves out.
    """

    def __init__(
        self, inputs: int, outputs: int, hidden: int, maps: bool, serial: bool,
        stride: Any = 1, drop: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.serial = serial
        self.down = matrix(inputs, hidden, maps, stride)
        self.drop = nn.Dropout(drop)
        self.up = zeroed(matrix(hidden, outputs, maps))

    def forward(self, x: Tensor) -> Tensor:
        """What is added, or where it is serial the sum."""
        moved: Tensor = self.up(self.drop(torch.relu(self.down(x))))
        return x + moved if self.serial else moved


def bottleneck(
    layer: nn.Module, seen: Layer, form: Form, hidden: int, drop: float = 0.0
) -> tuple[nn.Module, str] | str:
    """The layer with a bottleneck behind or beside it and what was put there, or why not."""
    if isinstance(layer, nn.MultiheadAttention):
        return "returns more than one tensor"
    maps = not channels_last_axis(layer, seen.output)
    axis = 1 if maps else -1
    taken, returned = seen.shape[axis], seen.output[axis]
    if form == "serial":
        part = Bottleneck(returned, returned, hidden, maps, serial=True, drop=drop)
        made = Beside(layer, behind=part)
    else:
        stride = layer.stride if isinstance(layer, nn.Conv2d | Patterned) else 1
        if maps and not _same_places(seen, stride):
            return "its padding gives maps of a size that one tap cannot"
        part = Bottleneck(taken, returned, hidden, maps, serial=False, stride=stride, drop=drop)
        made = Beside(layer, parallel=part)
    count = sum(p.numel() for p in part.parameters())
    return made, f"a {form} bottleneck of {hidden}, {count:,} parameters"


def _same_places(seen: Layer, stride: Any) -> bool:
    """Whether a convolution of one tap with this stride gives maps of the layer's own size."""
    steps = stride if isinstance(stride, tuple) else (stride, stride)
    sizes = [(n - 1) // s + 1 for n, s in zip(seen.shape[2:], steps, strict=True)]
    return tuple(sizes) == seen.output[2:]
