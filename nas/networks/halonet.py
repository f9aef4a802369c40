"""HaloNet's bottleneck: local attention in the place of the 3x3 convolution (arXiv 2103.12731).

BoTNet's (2101.11605) is the same with one block as large as the map, and no rim. Which blocks of a
stage attend is timm's choice of its `halonet` and `halo2botnet` networks.
"""

from __future__ import annotations

from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.mixers.halo import HaloAttention
from nas.networks.parts.layers import norm_act

WHERE = ("none", "last", "others", "all")


def attends(where: str, index: int, depth: int) -> bool:
    """Whether block `index` of a stage of `depth` attends: the last one, every second one, or all.

    >>> [attends("others", i, 4) for i in range(4)]
    [False, True, False, True]
    """
    match where:
        case "none":
            return False
        case "last":
            return index == depth - 1
        case "others":
            return index % 2 == 1
        case "all":
            return True
    raise unknown("place of attention", where, WHERE)


class HaloLayer(nn.Module):
    """HaloNet's attention with its norm and activation.

    Args:
        inputs, outputs: channels; `heads` divide the outputs.
        head: channels of each query; 0: of each value.
        window: side of a block of pixels. halo: of the rim that it sees.
        stride: between the pixels that look.
        activation, norm: behind.
    """

    def __init__(
        self, inputs: int, outputs: int, heads: int, head: int, window: int, halo: int,
        stride: int, activation: str, norm: str,
    ) -> None:  # fmt: skip
        super().__init__()
        value = outputs // heads
        self.attend = HaloAttention(
            inputs, heads, head or value, window, halo, value, stride, whole=False
        )
        self.after = norm_act(outputs, activation, norm)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        y: Tensor = self.after(self.attend(x))
        return y
