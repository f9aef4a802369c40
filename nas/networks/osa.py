"""One-shot aggregation: VoVNet (arXiv 1904.09730) and its second version (1911.06667)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.networks.parts.gates import make_gate
from nas.networks.parts.layers import conv, conv_norm, he, named, norm_act
from nas.networks.parts.log import Log
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.residual import DropPath


@dataclass(frozen=True)
class AggregationStage:
    """One stage: `depth` blocks behind a pool that halves the maps.

    Args:
        width: channels that each block ends with.
        inner: channels of each of its convolutions.
        layers: number of those.
        gate: `none`, `ese`, `se` or `eca`.
    """

    depth: int
    width: int
    inner: int
    layers: int
    gate: str = "none"


@dataclass(frozen=True)
class AggregationNetwork:
    """The network around the stages.

    Args:
        channels: of the input.
        outputs: size of the output.
        stages: three or four; the first has no pool.
        stem_width: channels of the stem's first two convolutions.
        stem_end: channels of its third.
        stem_stride: 1, 2 or 4: of the first convolution, at 4 of the third too.
        activation: of every convolution.
        depthwise: whether 3x3 convolutions are depthwise, each followed by a 1x1.
        residual: whether blocks that keep their width add their input (V2).
        gated: `last` block of a stage (timm) or `every` block (the authors).
        drop_path: chance that the last block's branch is dropped; earlier ones less.
    """

    channels: int
    outputs: int
    stages: tuple[AggregationStage, ...]
    stem_width: int = 64
    stem_end: int = 128
    stem_stride: int = 4
    activation: str = "relu"
    depthwise: bool = False
    residual: bool = False
    gated: str = "last"
    drop_path: float = 0.0


def spatial(network: AggregationNetwork, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """A 3x3 convolution with norm and activation, or a depthwise and a 1x1 one."""
    if not network.depthwise:
        return conv_norm(inputs, outputs, 3, stride, network.activation)
    pointwise = norm_act(outputs, network.activation)
    return named(
        depthwise=conv(inputs, inputs, 3, stride, inputs),
        pointwise=conv(inputs, outputs),
        **dict(pointwise.named_children()),
    )


class AggregationBlock(nn.Module):
    """Convolutions in a row; one 1x1 convolution sees the input and what each of them made."""

    keeps_norms = True

    def __init__(
        self, network: AggregationNetwork, stage: AggregationStage, index: int, inputs: int,
        drop: float,
    ) -> None:  # fmt: skip
        super().__init__()
        inner, act = stage.inner, network.activation
        narrows = network.depthwise and inputs != inner
        self.reduce = conv_norm(inputs, inner, 1, 1, act) if narrows else nn.Identity()
        width, convs = inner if narrows else inputs, []
        for _ in range(stage.layers):
            convs.append(spatial(network, width, inner))
            width = inner
        self.convs = nn.ModuleList(convs)
        self.aggregate = conv_norm(inputs + stage.layers * inner, stage.width, 1, 1, act)
        gated = network.gated == "every" or index == stage.depth - 1
        self.gate = make_gate(stage.gate if gated else "none", stage.width)
        self.residual = network.residual and inputs == stage.width
        self.drop = DropPath(drop if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, width, H, W)`."""
        seen = [x]
        y = self.reduce(x)
        for layer in self.convs:
            y = layer(y)
            seen.append(y)
        z: Tensor = self.drop(self.gate(self.aggregate(torch.cat(seen, 1))))
        return x + z if self.residual else z

    def absorb_norms(self, path: str, log: Log) -> None:
        """The chains of layers inside fold by themselves; the gate stays."""
        if not isinstance(self.gate, nn.Identity):
            log.skip(f"{path}.gate", "its gate depends on the input")


class AggregationNet(nn.Module):
    """Stem, stages, head."""

    def __init__(self, network: AggregationNetwork) -> None:
        super().__init__()
        width, act, stride = network.stem_width, network.activation, network.stem_stride
        self.stem = nn.Sequential(
            conv_norm(network.channels, width, 3, min(2, stride), act),
            spatial(network, width, width),
            spatial(network, width, network.stem_end, 2 if stride == 4 else 1),
        )
        width, done = network.stem_end, 0
        total = max(1, sum(stage.depth for stage in network.stages) - 1)
        stages = []
        for i, stage in enumerate(network.stages):
            layers: list[nn.Module] = [nn.MaxPool2d(3, 2, ceil_mode=True)] if i else []
            for index in range(stage.depth):
                drop = network.drop_path * done / total
                layers.append(AggregationBlock(network, stage, index, width, drop))
                width, done = stage.width, done + 1
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.head = named(pool=SpatialMean(), linear=nn.Linear(width, network.outputs))
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y


def initialise(module: nn.Module) -> None:
    """He's normal weights, zero biases."""
    if isinstance(module, nn.Conv2d):
        he(module)
