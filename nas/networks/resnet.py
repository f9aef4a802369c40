"""Residual networks of basic and bottleneck blocks, and what grew from them.

ResNet (arXiv 1512.03385) and its B, C and D forms (1812.01187), activation first (1603.05027), wide
(1605.07146), ResNeXt (1611.05431), Res2Net, ResNeSt, SKNet, RegNet (2003.13678), ResNet-RS
(2103.07579), LAuReL's skips; dual paths are in `dualpath.py`, local attention in `halonet.py`. A
network is data first (`ResidualNetwork`), and `ResidualNet` builds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.dualpath import DualPathBlock
from nas.networks.halonet import HaloLayer, attends
from nas.networks.parts.activations import make_activation
from nas.networks.parts.gates import ResponseNorm, make_gate
from nas.networks.parts.laurel import LearnedSkip
from nas.networks.parts.layers import conv, conv_norm, he, named, norm_act
from nas.networks.parts.log import Log
from nas.networks.parts.merge import scale_output
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.residual import DropPath
from nas.networks.parts.shortcuts import make_shortcut
from nas.networks.res2net import ScaledConv
from nas.networks.resnest import SplitAttention
from nas.networks.sknet import SelectiveKernel


@dataclass(frozen=True)
class ResidualStage:
    """One stage: `depth` blocks, the first of which changes width and size.

    Args:
        width: channels of the residual stream.
        stride: of the first block.
        inner: channels of the spatial convolution over the width (1/4 in ResNet's bottlenecks).
        groups: of the spatial convolution (ResNeXt's cardinality), which rounds its channels.
        conv: the spatial convolution: `plain`, `scales` (Res2Net), `split` (ResNeSt) or `select`
            (SKNet).
        scale: number of parts of `scales`.
        radix: number of splits of `split`.
        gate: `none`, `se`, `eca`, `ese`, `scse`, `gc` or `grn`.
        ratio: bottleneck of `se`.
        increment: channels that each dual-path block adds to the dense stream.
        attends: which bottlenecks have HaloNet's attention for their spatial convolution: `none`,
            `last`, `others` (every second one) or `all`.
        heads: of it, which divide the spatial channels.
        head: channels of each query; 0: those of a value.
        window: side of its blocks. halo: of the rim that they see.
    """

    depth: int
    width: int
    stride: int
    inner: float = 0.25
    groups: int = 1
    conv: str = "plain"
    scale: int = 4
    radix: int = 2
    gate: str = "none"
    ratio: float = 1 / 16
    increment: int = 0
    attends: str = "none"
    heads: int = 8
    head: int = 0
    window: int = 8
    halo: int = 3

    @property
    def spatial(self) -> int:
        """Channels of the spatial convolution: a multiple of what it is divided into."""
        parts = {"scales": self.scale, "split": self.radix}.get(self.conv, 1) * self.groups
        if self.attends != "none":
            parts = math.lcm(parts, self.heads)
        return parts * max(1, round(self.width * self.inner / parts))


@dataclass(frozen=True)
class ResidualNetwork:
    """The network around the stages.

    Args:
        channels: of the input.
        outputs: size of the output.
        stages: three or four.
        stem: `7x7`, `3x3`, `deep` (three 3x3, ResNet-C) or `tiered` (three that widen).
        stem_width: channels that the stem ends with.
        stem_stride: 1, 2 or 4; 4 is 2 and then `pool`.
        pool: `max`, `conv` (a 3x3 convolution, ResNet-RS) or `last` (the stem's last layer).
        block: `basic`, `bottleneck` or `dual`.
        order: `post` or `pre`, where norm and activation are beside the convolutions.
        norm: `batch` or `group`.
        activation: of every block.
        shortcut: `conv`, `conv3` or `pool`.
        shrink: where a bottleneck strides: `spatial` (ResNet-B), `reduce` (the first 1x1), or an
            average `before` or `after` the spatial convolution (ResNeSt).
        reduce: channels of the first 1x1 over those of the spatial convolution.
        gate_at: `last`, or `inner` behind the spatial convolution; `grn` is always inside.
        gate_of: `output`, or `input`: what the ratio of `se` is of (RegNet: the block's input).
        skip: `plain`, or LAuReL's parts such as `rw+lr`.
        rank: of `lr`.
        head_width: channels of a last 1x1 convolution; 0 for none.
        zero_gamma: whether the last norm of each block starts at zero.
        dropout: chance of each number between the convolutions of a basic block, or before the
            last layer of another network.
        drop_path: chance that the last block's branch is dropped; earlier ones less.
    """

    channels: int
    outputs: int
    stages: tuple[ResidualStage, ...]
    stem: str = "7x7"
    stem_width: int = 64
    stem_stride: int = 4
    pool: str = "max"
    block: str = "bottleneck"
    order: str = "post"
    norm: str = "batch"
    activation: str = "relu"
    shortcut: str = "conv"
    shrink: str = "spatial"
    reduce: float = 1.0
    gate_at: str = "last"
    gate_of: str = "output"
    skip: str = "plain"
    rank: int = 16
    head_width: int = 0
    zero_gamma: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0


def make_stem(network: ResidualNetwork) -> nn.Module:
    """Image to the first stage's maps, smaller by `network.stem_stride`.

    With the activation first, the stem ends in a bare convolution: the first block normalises.
    """
    width, act, norm = network.stem_width, network.activation, network.norm
    first = min(2, network.stem_stride)
    last = 2 if network.stem_stride == 4 and network.pool == "last" else 1
    if network.stem in ("7x7", "3x3"):
        before: list[nn.Module] = []
        inputs, kernel, stride = network.channels, int(network.stem[0]), first * last
    elif network.stem in ("deep", "tiered"):
        half = width // 2
        narrow = half if network.stem == "deep" else width * 3 // 8
        before = [
            conv_norm(network.channels, narrow, 3, first, act, norm),
            conv_norm(narrow, half, 3, 1, act, norm),
        ]
        inputs, kernel, stride = half, 3, last
    else:
        raise unknown("stem", network.stem, ["7x7", "3x3", "deep", "tiered"])
    bare = network.order == "pre" and network.block != "dual"
    layer: nn.Module = conv_norm(inputs, width, kernel, stride, act, norm)
    if bare:
        layer = conv(inputs, width, kernel, stride)
    layers = nn.Sequential(*before, layer)
    if network.stem_stride == 4 and network.pool != "last":
        layers.append(make_pool(network))
    return layers


def make_pool(network: ResidualNetwork) -> nn.Module:
    """Halves the maps behind the stem."""
    if network.pool == "max":
        return nn.MaxPool2d(3, 2, 1)
    if network.pool != "conv":
        raise unknown("pool", network.pool, ["max", "conv", "last"])
    width = network.stem_width
    return conv_norm(width, width, 3, 2, network.activation, network.norm)


def make_spatial(
    network: ResidualNetwork, stage: ResidualStage, inputs: int, stride: int, index: int
) -> nn.Module:
    """The spatial convolution with its norm and activation, from `inputs` channels."""
    outputs, act, norm, first = stage.spatial, network.activation, network.norm, index == 0
    if attends(stage.attends, index, stage.depth):
        s = stage
        return HaloLayer(inputs, outputs, s.heads, s.head, s.window, s.halo, stride, act, norm)
    if stage.conv == "plain":
        return conv_norm(inputs, outputs, 3, stride, act, norm, stage.groups)
    if stage.conv == "scales":
        return ScaledConv(outputs, stage.scale, stage.groups, stride, first, act, norm)
    if stage.conv == "split":
        return SplitAttention(outputs, stage.radix, stage.groups, stride, act, norm)
    if stage.conv == "select":
        halves = network.block == "basic"
        return SelectiveKernel(inputs, outputs, stage.groups, stride, halves, act, norm)
    raise unknown("convolution", stage.conv, ["plain", "scales", "split", "select"])


def bottleneck(
    network: ResidualNetwork, stage: ResidualStage, inputs: int, stride: int, index: int
) -> dict[str, nn.Module]:
    """A 1x1 convolution, the spatial one, and a 1x1 convolution to the stage's width."""
    narrow = round(stage.spatial * network.reduce)
    act, norm, shrink = network.activation, network.norm, network.shrink
    at = {name: stride if shrink == name else 1 for name in ("reduce", "spatial")}
    layers: dict[str, nn.Module] = {"reduce": conv_norm(inputs, narrow, 1, at["reduce"], act, norm)}
    average = nn.AvgPool2d(3, stride, 1) if stride > 1 else None
    if shrink == "before" and average is not None:
        layers["average"] = average
    layers["spatial"] = make_spatial(network, stage, narrow, at["spatial"], index)
    if shrink == "after" and average is not None:
        layers["average"] = average
    return layers


def basic(
    network: ResidualNetwork, stage: ResidualStage, inputs: int, stride: int, index: int
) -> dict[str, nn.Module]:
    """Two spatial convolutions, the last of them plain."""
    layers = {"spatial": make_spatial(network, stage, inputs, stride, index)}
    if network.dropout:
        layers["dropout"] = nn.Dropout(network.dropout)
    return layers


class ResidualBlock(nn.Module):
    """A branch beside a skip: `activation(skip + branch)`, or the activation before both.

    Where a block with the activation first changes the size, skip and branch share it.
    """

    keeps_norms = True

    def __init__(
        self, network: ResidualNetwork, stage: ResidualStage, index: int, inputs: int, drop: float
    ) -> None:
        super().__init__()
        if network.block not in ("basic", "bottleneck"):
            raise unknown("block", network.block, ["basic", "bottleneck", "dual"])
        act, norm, width = network.activation, network.norm, stage.width
        stride, pre = stage.stride if index == 0 else 1, network.order == "pre"
        make = basic if network.block == "basic" else bottleneck
        layers = make(network, stage, inputs, stride, index)
        attending = attends(stage.attends, index, stage.depth)
        kind = "none" if attending else stage.gate  # attention is gate enough
        inner = kind != "none" and (network.gate_at == "inner" or kind == "grn")
        gated = stage.spatial if inner else width
        hidden = round(inputs * stage.ratio) if network.gate_of == "input" else None
        gate = make_gate(kind, gated, stage.ratio, hidden)
        if inner:  # before an average, which may follow the spatial convolution
            names = list(layers)
            layers = {n: layers[n] for n in names if names.index(n) <= names.index("spatial")} | {
                "gate": gate,
                **{n: layers[n] for n in names if names.index(n) > names.index("spatial")},
            }
        kernel = 3 if network.block == "basic" else 1
        layers["expand"] = conv(stage.spatial, width, kernel)
        if not pre:
            layers["expand"] = conv_norm(stage.spatial, width, kernel, 1, "none", norm)
        self.before: nn.Module = norm_act(inputs, act, norm) if pre else nn.Identity()
        self.branch = named(**layers)
        self.gate = nn.Identity() if inner else gate
        self.drop = DropPath(drop)
        self.shortcut = make_shortcut(network.shortcut, inputs, width, stride, norm, pre)
        self.shares = pre and not isinstance(self.shortcut, nn.Identity)
        self.join = LearnedSkip(width, network.skip, network.rank)
        self.after = nn.Identity() if pre else make_activation(act)

    def forward(self, x: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
        """`(B, inputs, H, W)` to `(B, width, H / stride, W / stride)`."""
        y = self.before(x)
        skip = self.shortcut(y if self.shares else x)
        branch = self.drop(self.gate(self.branch(y)))
        z: Tensor = self.after(self.join(skip, branch, earlier))
        return z

    def absorb_norms(self, path: str, log: Log) -> None:
        """Moves a response norm's shift and the branch's learned factor into its last layer.

        The chains of layers inside fold by themselves.
        """
        last = self.branch.get_submodule("expand")
        layer = last.get_submodule("conv") if isinstance(last, nn.Sequential) else last
        gate = self.branch._modules.get("gate", self.gate)
        if isinstance(gate, ResponseNorm) and isinstance(layer, nn.Conv2d):
            if layer.kernel_size == (1, 1) and "average" not in self.branch._modules:
                gate.absorb_shift(layer)
                log.touch(f"{path}.gate", "shift into the next layer's bias")
            log.skip(f"{path}.gate", "its gain depends on the input")
        elif not isinstance(gate, nn.Identity):
            log.skip(f"{path}.gate", "its gate depends on the input")
        if self.join.logits is None:
            return
        if isinstance(self.gate, nn.Identity) and isinstance(layer, nn.Conv2d):
            factor = self.join.absorb()
            assert factor is not None
            scale_output(layer, factor.expand(layer.out_channels), None)
            log.touch(f"{path}.join", "the branch's factor into its last layer")
        else:
            why = "a gate or an adapter stands between the branch's factor and its layers"
            log.skip(f"{path}.join", why)


class ResidualStageLayers(nn.Module):
    """The blocks of one stage; LAuReL's `pa` also hands each the inputs of those before."""

    def __init__(
        self, network: ResidualNetwork, stage: ResidualStage, inputs: int, drops: Sequence[float]
    ) -> None:
        super().__init__()
        self.remembers = "pa" in network.skip.split("+")
        blocks: list[nn.Module] = []
        for index, drop in enumerate(drops):
            before = stage.width if index else inputs
            if network.block == "dual":
                blocks.append(dual_path(network, stage, index, inputs))
            else:
                blocks.append(ResidualBlock(network, stage, index, before, drop))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """The previous stage's maps to this one's."""
        earlier: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            y = block(x, earlier) if self.remembers else block(x)
            earlier += [x] if i else []  # the first block's input has another size
            x = y
        return x


def dual_path(
    network: ResidualNetwork, stage: ResidualStage, index: int, inputs: int
) -> DualPathBlock:
    """Block `index` of a dual-path stage, whose dense stream grows with each block."""
    wide = stage.width + (index + 2) * stage.increment if index else inputs
    gate = make_gate(stage.gate, stage.width + stage.increment, stage.ratio)
    return DualPathBlock(
        wide, stage.spatial, stage.width, stage.increment, stage.groups,
        stage.stride if index == 0 else 0, network.activation, gate,
    )  # fmt: skip


def make_head(network: ResidualNetwork, width: int) -> nn.Module:
    """The last maps to outputs."""
    layers: dict[str, nn.Module] = {}
    if network.order == "pre" or network.block == "dual":
        layers |= dict(norm_act(width, network.activation, network.norm).named_children())
    if network.head_width:
        wide = network.head_width
        layers["expand"] = conv_norm(width, wide, 1, 1, network.activation, network.norm)
        width = wide
    layers["pool"] = SpatialMean()
    if network.dropout and network.block != "basic":
        layers["dropout"] = nn.Dropout(network.dropout)
    return named(**layers, linear=nn.Linear(width, network.outputs))


class ResidualNet(nn.Module):
    """Stem, stages, head."""

    def __init__(self, network: ResidualNetwork) -> None:
        super().__init__()
        self.stem = make_stem(network)
        blocks = sum(stage.depth for stage in network.stages)
        drops = [network.drop_path * i / max(1, blocks - 1) for i in range(blocks)]
        width, stages = network.stem_width, []
        for stage in network.stages:
            stages.append(ResidualStageLayers(network, stage, width, drops[: stage.depth]))
            drops = drops[stage.depth :]
            dense = (stage.depth + 2) * stage.increment if network.block == "dual" else 0
            width = stage.width + dense
        self.stages = nn.Sequential(*stages)
        self.head = make_head(network, width)
        self.apply(initialise)
        if network.block == "dual":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = 1e-3
        for module in self.modules():
            if isinstance(module, ResidualBlock) and network.zero_gamma:
                zero_last(module)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y


def initialise(module: nn.Module) -> None:
    """He's normal weights, and a learned skip that starts as a plain one."""
    if isinstance(module, nn.Conv2d):
        he(module)
    elif isinstance(module, LearnedSkip):
        module.start()


def zero_last(block: ResidualBlock) -> None:
    """Starts a block as its skip alone: its last norm, or else its last convolution, is zero."""
    last = block.branch.get_submodule("expand")
    layer = last.get_submodule("norm") if isinstance(last, nn.Sequential) else last
    assert isinstance(layer.weight, nn.Parameter)
    nn.init.zeros_(layer.weight)
