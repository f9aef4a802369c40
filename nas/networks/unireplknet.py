"""The UniRepLKNet block (arXiv 2311.15599)."""

from __future__ import annotations

from torch import nn

from nas.networks.convnext import ConvNeXtBlock
from nas.networks.mixers.peripheral import PositionalTable
from nas.networks.plan import Network, Stage


class UniRepLKNetBlock(ConvNeXtBlock):
    """A ConvNeXt block with batch norm after the mixer and after the second pointwise layer.

    Neither has a bias of its own before the norm; a missing mixer has no norm after it. As
    published, it has both gates: squeeze-and-excitation and response norm.
    """

    biased = False

    def __init__(
        self,
        network: Network,
        stage: Stage,
        index: int,
        drop: float,
        table: PositionalTable | None = None,
    ) -> None:
        super().__init__(network, stage, index, drop, table)
        mixes = stage.mixer != "identity"
        self.norm = nn.BatchNorm2d(stage.width) if mixes else nn.Identity()
        self.project = nn.Conv2d(self.expand.out_channels, stage.width, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(stage.width)
