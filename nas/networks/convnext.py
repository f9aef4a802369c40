"""The ConvNeXt block (arXiv 2201.03545; V2's response norm arXiv 2301.00808).

With other mixers it is the block of InceptionNeXt (batch norm), SLaK and PeLK too.
"""

from __future__ import annotations

from torch import Tensor, nn

from nas.networks.mixers.named import make_mixer
from nas.networks.mixers.peripheral import PositionalTable
from nas.networks.parts.activations import make_activation
from nas.networks.parts.gates import ResponseNorm, SqueezeExcite
from nas.networks.parts.log import Log
from nas.networks.parts.merge import fold_backward, fold_forward, scale_output
from nas.networks.parts.norms import make_norm
from nas.networks.parts.residual import DropPath, LayerScale
from nas.networks.plan import Network, Stage


class ConvNeXtBlock(nn.Module):
    """Mixer, one norm, an inverted bottleneck with one activation, layer scale; residual."""

    keeps_norms = False
    biased = True  # whether the mixer adds a constant: not where a batch norm always follows

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
        self.mixer = make_mixer(stage, index, width, self.biased, table)
        self.norm = make_norm(stage.norm, width)
        self.se = SqueezeExcite(width, stage.ratio) if "se" in stage.gate else nn.Identity()
        self.expand = nn.Conv2d(width, hidden, 1)
        self.activation = make_activation(stage.activation)
        self.grn = ResponseNorm(hidden) if "grn" in stage.gate else nn.Identity()
        self.project = nn.Conv2d(hidden, width, 1)
        self.project_norm: nn.Module = nn.Identity()
        self.scale = LayerScale(width) if network.layer_scale else nn.Identity()
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.se(self.norm(self.mixer(x)))
        y = self.grn(self.activation(self.expand(y)))
        y = self.scale(self.project_norm(self.project(y)))
        z: Tensor = x + self.drop(y)
        return z

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies the norms, the response norm's shift and the layer scale into neighbours."""
        if not isinstance(self.norm, nn.Identity):
            ungated = isinstance(self.se, nn.Identity)
            name = f"{path}.norm"
            if (
                fold_forward(name, self.norm, self.expand, log)
                if ungated
                else fold_backward(name, self.mixer, self.norm, log)
            ):
                self.norm = nn.Identity()
        if isinstance(self.grn, ResponseNorm):
            if self.grn.absorb_shift(self.project):
                log.touch(f"{path}.grn", "shift into the next layer's bias")
            log.skip(f"{path}.grn", "its gain depends on the input")
        if isinstance(self.se, SqueezeExcite):
            log.skip(f"{path}.se", "its gate depends on the input")
        if not isinstance(self.project_norm, nn.Identity) and fold_backward(
            f"{path}.project_norm", self.project, self.project_norm, log
        ):
            self.project_norm = nn.Identity()
        if isinstance(self.scale, LayerScale) and scale_output(
            self.project, self.scale.gamma.detach(), None
        ):
            log.touch(f"{path}.scale", "layer scale into the layer before it")
            self.scale = nn.Identity()
