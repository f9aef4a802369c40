"""Blocks of a token mixer and an MLP in four stages: HorNet, and every other mixer in its place.

Stem, downsampling and head are ConvNeXt's; a block has two residual branches, each behind a layer
norm over channels and before a learned factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.hornet import Gated, GatedConvolution
from nas.networks.mixers.codenet import DeformableMixer
from nas.networks.mixers.das import SalientGate
from nas.networks.mixers.depthwise import Size
from nas.networks.mixers.hyperzzw import HyperMixer
from nas.networks.mixers.spectrum import AdaptiveFilter, ConditionedConvolution, CosineMixer
from nas.networks.mixers.tunable import TunableConvolution
from nas.networks.mixers.tvconv import VariantConvolution
from nas.networks.parts.layers import named
from nas.networks.parts.log import Log
from nas.networks.parts.merge import fold_forward, scale_output
from nas.networks.parts.norms import make_norm, make_token_norm
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.residual import DropPath, LayerScale


@dataclass(frozen=True)
class MixerStage:
    """One stage: `depth` equal blocks on maps of one size.

    Args:
        width: channels.
        mixer: one of `MIXERS`.
        order, kernel, scale: of a gated convolution; kernel 0 is the global filter. `kernel` is of
            every other convolution too.
        blocks: of channels, in which a spectrum's layers are.
        threshold: of the adaptive filter's shrinkage.
        offsets: of a deformable convolution.
        expansion: hidden over outer width of the MLP.
    """

    depth: int
    width: int
    mixer: str = "gated"
    order: int = 3
    kernel: int = 7
    scale: float = 1 / 3
    blocks: int = 8
    threshold: float = 0.01
    offsets: str = "bounded"
    expansion: int = 4


@dataclass(frozen=True)
class MixerNetwork:
    """The network around the stages: `patch` is the stem's stride; `side` of the input.

    `norm` is `layer` or `unified`.
    """

    channels: int
    side: int
    outputs: int
    stages: tuple[MixerStage, ...]
    patch: int = 4
    drop_path: float = 0.0
    norm: str = "layer"


MIXERS: dict[str, Callable[[MixerStage, Size], nn.Module]] = {
    "gated": lambda s, size: GatedConvolution(s.width, Gated(s.order, s.kernel, s.scale), size),
    "adaptive": lambda s, _: AdaptiveFilter(s.width, s.blocks, s.threshold),
    "cosine": lambda s, size: CosineMixer(s.width, size, s.blocks),
    "conditioned": lambda s, _: ConditionedConvolution(s.width),
    "hyper": lambda s, size: HyperMixer(s.width, size),
    "variant": lambda s, size: VariantConvolution(s.width, s.kernel, size),
    "tunable": lambda s, _: TunableConvolution(s.width, s.kernel),
    "deformable": lambda s, _: DeformableMixer(s.width, s.offsets),
    "salient": lambda s, _: SalientGate(s.width),
}


class MixerBlock(nn.Module):
    """A token mixer and an MLP, each between a norm and a learned factor; both residual."""

    keeps_norms = True

    def __init__(self, stage: MixerStage, size: Size, drop: float, norm: str = "layer") -> None:
        super().__init__()
        if stage.mixer not in MIXERS:
            raise unknown("mixer", stage.mixer, MIXERS)
        width, hidden = stage.width, stage.width * stage.expansion
        self.norm1 = make_norm(norm, width)
        self.mixer = MIXERS[stage.mixer](stage, size)
        self.scale1: nn.Module = LayerScale(width)
        self.norm2 = make_norm(norm, width)
        self.expand = nn.Conv2d(width, hidden, 1)
        self.activation = nn.GELU()
        self.project = nn.Conv2d(hidden, width, 1)
        self.scale2: nn.Module = LayerScale(width)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        x = x + self.drop(self.scale1(self.mixer(self.norm1(x))))
        y = self.project(self.activation(self.expand(self.norm2(x))))
        z: Tensor = x + self.drop(self.scale2(y))
        return z

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies the learned factors into the layers before them, norms into those after."""
        ends = {"scale1": getattr(self.mixer, "leave", None), "scale2": self.project}
        for name, layer in ends.items():
            scale = getattr(self, name)
            if not isinstance(scale, LayerScale) or layer is None:
                continue
            if scale_output(layer, scale.gamma.detach(), None):
                log.touch(f"{path}.{name}", "layer scale into the layer before it")
                setattr(self, name, nn.Identity())
        first = getattr(self.mixer, "enter", self.mixer)
        for name, layer in (("norm1", first), ("norm2", self.expand)):
            if fold_forward(f"{path}.{name}", getattr(self, name), layer, log):
                setattr(self, name, nn.Identity())


class MixerNet(nn.Module):
    """Stem, stages, head."""

    def __init__(self, network: MixerNetwork) -> None:
        super().__init__()
        total = max(1, sum(stage.depth for stage in network.stages) - 1)
        width, side, done, stages = network.channels, network.side, 0, list[nn.Module]()
        for i, stage in enumerate(network.stages):
            step = 2 if i else network.patch
            side //= step
            conv, norm = (
                nn.Conv2d(width, stage.width, step, step),
                make_norm(network.norm, stage.width if not i else width),
            )
            layers: list[nn.Module] = [norm, conv] if i else [conv, norm]
            for _ in range(stage.depth):
                drop = network.drop_path * done / total
                layers.append(MixerBlock(stage, (side, side), drop, network.norm))
                done += 1
            stages.append(nn.Sequential(*layers))
            width = stage.width
        self.stages = nn.Sequential(*stages)
        self.head = named(
            pool=SpatialMean(), norm=make_token_norm(network.norm, width, 1e-6),
            linear=nn.Linear(width, network.outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, S, S)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(x))
        return y
