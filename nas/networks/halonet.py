"""HaloNet's bottleneck: local attention in the place of the 3x3 convolution (arXiv 2103.12731).

BoTNet's (2101.11605) is the same with one block as large as the map, and no rim. Which blocks of a
stage attend is timm's choice of its `halonet` and `halo2botnet` networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from nas.core.errors import unknown
from nas.networks.mixers.halo import HaloAttention
from nas.networks.parts.layers import named, norm_act

if TYPE_CHECKING:
    from nas.networks.resnet import ResidualNetwork, ResidualStage

WHERE = ("none", "last", "others", "all")


def attends(stage: ResidualStage, index: int) -> bool:
    """Whether block `index` of a stage attends: the last one, every second one, or all."""
    match stage.attends:
        case "none":
            return False
        case "last":
            return index == stage.depth - 1
        case "others":
            return index % 2 == 1
        case "all":
            return True
    raise unknown("place of attention", stage.attends, WHERE)


def make_local(
    network: ResidualNetwork, stage: ResidualStage, inputs: int, stride: int
) -> nn.Module:
    """Attention from `inputs` channels to the stage's spatial ones, its norm and activation."""
    value = stage.spatial // stage.heads
    attend = HaloAttention(
        inputs, stage.heads, stage.head or value, stage.window, stage.halo, value, stride, False
    )
    return named(attend=attend, after=norm_act(stage.spatial, network.activation, network.norm))
