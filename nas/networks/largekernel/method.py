"""What an exact way of computing a depthwise convolution is."""

from __future__ import annotations

from typing import ClassVar, Protocol

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
