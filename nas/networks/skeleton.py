"""The skeleton that the large-kernel family shares: stem, four stages, head."""

from __future__ import annotations

from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.convnext import ConvNeXtBlock
from nas.networks.mixers.named import convolved
from nas.networks.mixers.peripheral import PositionalTable
from nas.networks.parts.layers import conv_norm, named
from nas.networks.parts.log import Log
from nas.networks.parts.norms import make_norm
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.sparse import sparsify
from nas.networks.plan import Network, Stage
from nas.networks.replknet import RepLKNetBlock
from nas.networks.unireplknet import UniRepLKNetBlock

BLOCKS: dict[str, type[ConvNeXtBlock] | type[RepLKNetBlock]] = {
    "convnext": ConvNeXtBlock,
    "unireplknet": UniRepLKNetBlock,
    "replknet": RepLKNetBlock,
}


def make_stem(network: Network) -> nn.Module:
    """Image to the first stage's maps, smaller by `network.stride`.

    `patch` cuts the image into squares (ConvNeXt; at stride 1 a 3x3 convolution, since single
    pixels normalised over channels keep little but their sign). `overlapping` is two 3x3
    convolutions (UniRepLKNet), `deep` four layers (RepLKNet).
    """
    inputs, width, stride = network.channels, network.stages[0].width, network.stride
    if network.stem == "patch":
        kernel, padding = (3, 1) if stride == 1 else (stride, 0)
        conv = nn.Conv2d(inputs, width, kernel, stride, padding)
        return named(conv=conv, norm=make_norm(network.stem_norm, width))
    first, second = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[stride]
    if network.stem == "overlapping":
        half = width // 2
        return named(
            conv1=nn.Conv2d(inputs, half, 3, first, 1),
            norm1=make_norm(network.stem_norm, half),
            activation=nn.GELU(),
            conv2=nn.Conv2d(half, width, 3, second, 1),
            norm2=make_norm(network.stem_norm, width),
        )
    if network.stem == "deep":
        return named(
            dense=conv_norm(inputs, width, 3, first),
            spatial=conv_norm(width, width, 3, groups=width),
            pointwise=conv_norm(width, width),
            shrink=conv_norm(width, width, 3, second, groups=width),
        )
    raise unknown("stem", network.stem, ["patch", "overlapping", "deep"])


def make_downsample(network: Network, inputs: int, outputs: int) -> nn.Module:
    """Maps of one stage to those of the next, half the size."""
    norm = network.downsample_norm
    if network.downsample == "patch":
        return named(norm=make_norm(norm, inputs), conv=nn.Conv2d(inputs, outputs, 2, 2))
    if network.downsample == "overlapping":
        conv = nn.Conv2d(inputs, outputs, 3, 2, 1)
        return named(conv=conv, norm=make_norm(norm, outputs))
    if network.downsample == "depthwise":
        return named(
            widen=conv_norm(inputs, outputs),
            shrink=conv_norm(outputs, outputs, 3, 2, groups=outputs),
        )
    raise unknown("downsample", network.downsample, ["patch", "overlapping", "depthwise"])


def make_head(network: Network) -> nn.Module:
    """The last maps to outputs: mean, norm and a linear layer, or InceptionNeXt's two layers."""
    width, outputs = network.stages[-1].width, network.outputs
    pool = SpatialMean()
    if network.head == "mlp":
        return named(
            pool=pool,
            expand=nn.Linear(width, 3 * width),
            activation=nn.GELU(),
            norm=nn.LayerNorm(3 * width, eps=1e-6),
            linear=nn.Linear(3 * width, outputs),
        )
    if network.head != "linear":
        raise unknown("head", network.head, ["linear", "mlp"])
    linear = nn.Linear(width, outputs)
    if network.head_norm == "batch":
        return named(norm=nn.BatchNorm2d(width), pool=pool, linear=linear)
    return named(pool=pool, norm=nn.LayerNorm(width, eps=1e-6), linear=linear)


class StageLayers(nn.Module):
    """A downsampling layer and the stage's blocks."""

    keeps_norms = False

    def __init__(
        self, network: Network, stage: Stage, downsample: nn.Module, drops: list[float]
    ) -> None:
        super().__init__()
        if network.block not in BLOCKS:
            raise unknown("block", network.block, BLOCKS)
        self.downsample = downsample
        self.table: PositionalTable | None = None
        if stage.mixer == "peripheral" and stage.positional:
            widening = stage.widening if network.block == "replknet" else 1.0
            channels = convolved(stage, int(stage.width * widening))
            self.table = PositionalTable(channels, stage.kernel)
        block = BLOCKS[network.block]
        self.blocks = nn.Sequential(
            *[block(network, stage, i, drop, self.table) for i, drop in enumerate(drops)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the stage's maps."""
        y: Tensor = self.blocks(self.downsample(x))
        return y

    def absorb_norms(self, path: str, log: Log) -> None:
        """Drops the positional table, which the merged mixers have taken into their biases."""
        if self.table is not None:
            log.touch(f"{path}.table", "positional table into the biases")
            self.table = None


class LargeKernelNet(nn.Module):
    """Stem, four stages, head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stem = make_stem(network)
        blocks = sum(stage.depth for stage in network.stages)
        drops = [network.drop_path * i / max(1, blocks - 1) for i in range(blocks)]
        stages = []
        for i, stage in enumerate(network.stages):
            before = network.stages[i - 1].width
            shrink = make_downsample(network, before, stage.width) if i else nn.Identity()
            done = sum(s.depth for s in network.stages[:i])
            stages.append(StageLayers(network, stage, shrink, drops[done : done + stage.depth]))
        self.stages = nn.Sequential(*stages)
        self.head = make_head(network)
        self.apply(initialise)
        sparsify(self, network.density)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(self.stem(x)))
        return y


def initialise(module: nn.Module) -> None:
    """Normal weights of deviation 0.02 and zero biases, as published.

    The published initialiser cuts at plus and minus 2, a hundred deviations out: no cut at all.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
