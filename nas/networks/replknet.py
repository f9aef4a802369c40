"""The RepLKNet layer: a large-kernel unit, then a pointwise unit (arXiv 2203.06717)."""

from __future__ import annotations

from torch import Tensor, nn

from nas.networks.mixers.named import is_normed, make_mixer
from nas.networks.mixers.peripheral import PositionalTable
from nas.networks.mixers.smallkernel import NormedMixer
from nas.networks.parts.activations import make_activation
from nas.networks.parts.gates import ResponseNorm, SqueezeExcite
from nas.networks.parts.log import Log
from nas.networks.parts.merge import fold_backward, fold_forward
from nas.networks.parts.residual import DropPath
from nas.networks.plan import Network, Stage


class RepLKNetBlock(nn.Module):
    """Two residual units, each between a batch norm and a pointwise convolution with its own.

    The gates, which RepLKNet has none of, sit as elsewhere: squeeze-and-excitation after the
    mixer's activation, response norm after the pointwise unit's.
    """

    keeps_norms = True  # RepLKNet's own code merges branches only

    def __init__(
        self,
        network: Network,
        stage: Stage,
        index: int,
        drop: float,
        table: PositionalTable | None = None,
    ) -> None:
        super().__init__()
        width, hidden = stage.width, int(stage.width * stage.expansion)
        wide = int(width * stage.widening)
        mixer = make_mixer(stage, index, wide, False, table)
        plain = is_normed(stage, index) or stage.mixer == "identity"

        self.spatial_norm: nn.Module = nn.BatchNorm2d(width)
        self.widen = nn.Conv2d(width, wide, 1, bias=False)
        self.widen_norm: nn.Module = nn.BatchNorm2d(wide)
        self.mixer = mixer if plain else NormedMixer(mixer, wide)
        self.relu = nn.ReLU()
        self.se = SqueezeExcite(wide, stage.ratio) if "se" in stage.gate else nn.Identity()
        self.narrow = nn.Conv2d(wide, width, 1, bias=False)
        self.narrow_norm: nn.Module = nn.BatchNorm2d(width)

        self.pointwise_norm: nn.Module = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.expand_norm: nn.Module = nn.BatchNorm2d(hidden)
        self.activation = make_activation(stage.activation)
        self.grn = ResponseNorm(hidden) if "grn" in stage.gate else nn.Identity()
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.project_norm: nn.Module = nn.BatchNorm2d(width)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.relu(self.widen_norm(self.widen(self.spatial_norm(x))))
        y = self.se(self.relu(self.mixer(y)))
        x = x + self.drop(self.narrow_norm(self.narrow(y)))
        y = self.expand_norm(self.expand(self.pointwise_norm(x)))
        y = self.grn(self.activation(y))
        z: Tensor = x + self.drop(self.project_norm(self.project(y)))
        return z

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies each norm into the pointwise convolution beside it."""
        if isinstance(self.grn, ResponseNorm):
            if self.grn.absorb_shift(self.project):
                log.touch(f"{path}.grn", "shift into the next layer's bias")
            log.skip(f"{path}.grn", "its gain depends on the input")
        if isinstance(self.se, SqueezeExcite):
            log.skip(f"{path}.se", "its gate depends on the input")
        for name in ("widen", "narrow", "expand", "project"):
            norm = f"{name}_norm"
            if fold_backward(f"{path}.{norm}", getattr(self, name), getattr(self, norm), log):
                setattr(self, norm, nn.Identity())
        for norm, name in (("spatial_norm", "widen"), ("pointwise_norm", "expand")):
            if fold_forward(f"{path}.{norm}", getattr(self, norm), getattr(self, name), log):
                setattr(self, norm, nn.Identity())
