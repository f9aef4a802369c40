"""What an exact way of computing a depthwise convolution is."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from nas.networks.largekernel.geometry import Geometry

Gradients = tuple[Tensor | None, Tensor | None]


class Method(Protocol):
    """One way of computing a depthwise convolution and its gradients: all give the same numbers.

    Weights are cropped to what the map can meet. Results may be in any memory layout; sums are
    taken in float32 where the inputs have fewer bits.
    """

    name: ClassVar[str]
    takes_cells: ClassVar[bool]  # the weight comes with an entry a cell instead of expanded
    widens: ClassVar[bool]  # maps of fewer bits are made float32 by itself, while it copies them

    def cost(self, geometry: Geometry) -> float | None:
        """Estimated nanoseconds on one core for a channel of one image and one pass, float32.

        None where the method does not apply, or cannot be worth trying.
        """

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """`x (B, C, H, W)` with `weight (C, 1, kh, kw)` to `(B, C, h, w)`, without a bias."""

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """The gradients of input and weight from that of the output; None for what is unwanted."""


def wide(x: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """In float32 where a processor would compute with 16 bits: oneDNN takes seconds for some.

    With a layout, in that one, by the same copy.
    """
    if x.dtype in (torch.bfloat16, torch.float16) and x.device.type == "cpu":
        return x.to(torch.float32, memory_format=layout)
    return x if layout == torch.preserve_format else x.contiguous(memory_format=layout)
