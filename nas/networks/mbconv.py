"""Mobile inverted bottlenecks: MobileNetV2 (arXiv 1801.04381), V3 (1905.02244), EfficientNet
(1905.11946), SkipNet's long skips (2107.11170)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nas.core.errors import unknown
from nas.core.scaling import rounded_width
from nas.networks.parts.activations import make_activation
from nas.networks.parts.gates import EfficientChannel, SqueezeExcite
from nas.networks.parts.layers import conv_norm, he_grouped, named
from nas.networks.parts.log import Log
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.residual import DropPath


@dataclass(frozen=True)
class MobileStage:
    """One stage: `depth` equal blocks, the first of which changes width and size.

    Args:
        width: channels of the residual stream.
        stride: of the first block.
        kernel: taps a side of the depthwise convolution.
        expansion: hidden over the block's input width.
        activation: inside the blocks.
        gate: `none`, `se` or `eca`, behind the depthwise convolution.
        skip: expansion of a long skip from the first stage to this one's end; 0 for none.
        skip_kernel: taps a side of its depthwise convolution.
    """

    depth: int
    width: int
    stride: int
    kernel: int = 3
    expansion: float = 6.0
    activation: str = "silu"
    gate: str = "none"
    skip: float = 0.0
    skip_kernel: int = 3


@dataclass(frozen=True)
class MobileNetwork:
    """The network around the stages.

    Args:
        channels: of the input.
        outputs: size of the output.
        stages: any number of them.
        stem_width, stem_stride: of the first convolution.
        activation: of stem and head.
        ratio: bottleneck of `se`.
        ratio_of: `input`, what the block takes (EfficientNet), or `hidden`, what the gate scales.
        gate_activation: inside `se`.
        gate_squash: `sigmoid` or `hardsigmoid`.
        head_width: channels of the convolution before the mean.
        head_hidden: channels of a layer behind it (MobileNetV3); 0 for none.
        dropout: before the last layer.
        drop_path: chance that the last block's branch is dropped; earlier ones less.
    """

    channels: int
    outputs: int
    stages: tuple[MobileStage, ...]
    stem_width: int = 32
    stem_stride: int = 2
    activation: str = "silu"
    ratio: float = 0.25
    ratio_of: str = "input"
    gate_activation: str = "silu"
    gate_squash: str = "sigmoid"
    head_width: int = 1280
    head_hidden: int = 0
    dropout: float = 0.0
    drop_path: float = 0.0


def make_gate(network: MobileNetwork, stage: MobileStage, inputs: int, hidden: int) -> nn.Module:
    """The gate of `hidden` channels in a block that takes `inputs`."""
    if stage.gate == "none":
        return nn.Identity()
    if stage.gate == "eca":
        return EfficientChannel(hidden)
    if stage.gate != "se":
        raise unknown("gate", stage.gate, ["none", "se", "eca"])
    narrow = max(1, round(inputs * network.ratio))
    if network.ratio_of == "hidden":
        narrow = rounded_width(hidden * network.ratio)
    return SqueezeExcite(hidden, 0, narrow, network.gate_activation, network.gate_squash)


class MobileBlock(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, a gate, a 1x1 one back; residual.

    At expansion 1 the first is left out (MobileNet's separable convolution).
    """

    keeps_norms = True

    def __init__(
        self, network: MobileNetwork, stage: MobileStage, index: int, inputs: int, drop: float
    ) -> None:
        super().__init__()
        stride, act = stage.stride if index == 0 else 1, stage.activation
        hidden = rounded_width(inputs * stage.expansion)
        layers: dict[str, nn.Module] = {}
        if stage.expansion == 1:
            hidden = inputs
        else:
            layers["expand"] = conv_norm(inputs, hidden, 1, 1, act)
        layers["spatial"] = conv_norm(hidden, hidden, stage.kernel, stride, act, groups=hidden)
        layers["gate"] = make_gate(network, stage, inputs, hidden)
        layers["project"] = conv_norm(hidden, stage.width, activation="none")
        self.branch = named(**layers)
        self.residual = stride == 1 and inputs == stage.width
        self.drop = DropPath(drop if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, width, H / stride, W / stride)`."""
        y: Tensor = self.branch(x)
        return x + self.drop(y) if self.residual else y

    def absorb_norms(self, path: str, log: Log) -> None:
        """The chain of layers inside folds by itself; the gate stays."""
        if not isinstance(self.branch.get_submodule("gate"), nn.Identity):
            log.skip(f"{path}.branch.gate", "its gate depends on the input")


def make_skip(stage: MobileStage, inputs: int, shrink: int, activation: str) -> nn.Module:
    """A long skip: a mean over squares of `shrink` pixels, then a block without a residual."""
    hidden = rounded_width(inputs * stage.skip)
    return named(
        pool=nn.AvgPool2d(shrink, shrink, ceil_mode=True, count_include_pad=False),
        expand=conv_norm(inputs, hidden, 1, 1, activation),
        spatial=conv_norm(hidden, hidden, stage.skip_kernel, 1, activation, groups=hidden),
        project=conv_norm(hidden, stage.width, activation="none"),
    )


def make_head(network: MobileNetwork, width: int) -> nn.Module:
    """The last maps to outputs."""
    layers: dict[str, nn.Module] = {}
    if network.head_width:
        layers["conv"] = conv_norm(width, network.head_width, 1, 1, network.activation)
        width = network.head_width
    layers["pool"] = SpatialMean()
    if network.head_hidden:
        layers["hidden"] = nn.Linear(width, network.head_hidden)
        layers["activation"] = make_activation(network.activation)
        width = network.head_hidden
    if network.dropout:
        layers["dropout"] = nn.Dropout(network.dropout)
    return named(**layers, linear=nn.Linear(width, network.outputs))


class MobileNet(nn.Module):
    """Stem, stages, head; long skips carry the first stage's maps to later ones."""

    def __init__(self, network: MobileNetwork) -> None:
        super().__init__()
        width, act = network.stem_width, network.activation
        self.stem = conv_norm(network.channels, width, 3, network.stem_stride, act)
        total = max(1, sum(stage.depth for stage in network.stages) - 1)
        done, shrink = 0, 1
        stages, skips = [], []
        for i, stage in enumerate(network.stages):
            blocks = []
            for index in range(stage.depth):
                drop = network.drop_path * done / total
                blocks.append(MobileBlock(network, stage, index, width, drop))
                width, done = stage.width, done + 1
            shrink *= stage.stride if i else 1
            skip: nn.Module = nn.Identity()
            if i and stage.skip:
                skip = make_skip(stage, network.stages[0].width, shrink, stage.activation)
            stages.append(nn.Sequential(*blocks))
            skips.append(skip)
        self.stages, self.skips = nn.ModuleList(stages), nn.ModuleList(skips)
        self.head = make_head(network, width)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        x = self.stem(x)
        source = x
        for i, (stage, skip) in enumerate(zip(self.stages, self.skips, strict=True)):
            x = stage(x)
            if i == 0:
                source = x
            elif not isinstance(skip, nn.Identity):
                x = x + skip(source)
        y: Tensor = self.head(x)
        return y


def initialise(module: nn.Module) -> None:
    """Normal weights by the number of each filter's outputs, zero biases."""
    if isinstance(module, nn.Conv2d):
        he_grouped(module)
