"""Every layer of `nas.networks` against a count by hand, and against torch's own counter.

A new layer class without a row here fails: its formula is to be written first.
"""

import importlib
import inspect
import pkgutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nas.networks
from nas.hardware.counting import count
from nas.hardware.meta import on_meta
from nas.networks.affnet import (
    Bottleneck,
    FilterBlock,
    FilterStage,
    FrequencyNet,
    FrequencyNetwork,
    FrequencyStage,
)
from nas.networks.convnext import ConvNeXtBlock
from nas.networks.dualpath import DualPathBlock
from nas.networks.halonet import HaloLayer
from nas.networks.hiervit import (
    Attention,
    Embedding,
    HierarchicalNet,
    HierarchicalStage,
    LocalAttention,
    Mlp,
    PlainEmbedding,
    ResidualReduction,
    TransformerBlock,
    TransformerNetwork,
    TransformerStage,
)
from nas.networks.hornet import Gated, GatedConvolution, LocalGlobalFilter
from nas.networks.mbconv import MobileBlock, MobileNet, MobileNetwork, MobileStage
from nas.networks.metaformer import MixerBlock, MixerNet, MixerNetwork, MixerStage
from nas.networks.mixers.codenet import DeformableConvolution, DeformableMixer
from nas.networks.mixers.das import SalientGate
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.dilated import DilatedMixer
from nas.networks.mixers.halo import HaloAttention
from nas.networks.mixers.hyperzzw import Coordinates, HyperMixer
from nas.networks.mixers.inception import InceptionMixer
from nas.networks.mixers.partial import Partial
from nas.networks.mixers.patterned import Patterned
from nas.networks.mixers.peripheral import PeripheralMixer, PositionalTable, cells
from nas.networks.mixers.smallkernel import NormedMixer, SmallKernelMixer
from nas.networks.mixers.spectrum import (
    AdaptiveFilter,
    ConditionedConvolution,
    CosineMixer,
    Fourier,
    GlobalFilter,
)
from nas.networks.mixers.stripe import StripeMixer
from nas.networks.mixers.tunable import TunableConvolution
from nas.networks.mixers.tvconv import VariantConvolution
from nas.networks.osa import (
    AggregationBlock,
    AggregationNet,
    AggregationNetwork,
    AggregationStage,
)
from nas.networks.parts.gates import (
    EffectiveSqueeze,
    EfficientChannel,
    GlobalContext,
    ResponseNorm,
    SpatialChannel,
    SqueezeExcite,
)
from nas.networks.parts.laurel import LearnedSkip
from nas.networks.parts.merge import Concatenated, Parallel
from nas.networks.parts.norms import ChannelNorm
from nas.networks.parts.pooling import SpatialMean
from nas.networks.parts.residual import DropPath, LayerScale
from nas.networks.parts.sparse import FixedMask
from nas.networks.parts.unified import UnifiedNorm
from nas.networks.plan import Network, Stage
from nas.networks.replknet import RepLKNetBlock
from nas.networks.repmlp import (
    InjectedPerceptron,
    PerceptronNet,
    PerceptronNetwork,
    PerceptronStage,
    PerceptronUnit,
)
from nas.networks.repopt import (
    BranchedBlock,
    PlainNet,
    PlainNetwork,
    PlainStage,
    RepOptBlock,
    ScaledBlock,
)
from nas.networks.res2net import ScaledConv
from nas.networks.resnest import SplitAttention
from nas.networks.resnet import (
    ResidualBlock,
    ResidualNet,
    ResidualNetwork,
    ResidualStage,
    ResidualStageLayers,
)
from nas.networks.skeleton import LargeKernelNet, StageLayers
from nas.networks.sknet import SelectiveKernel
from nas.networks.unireplknet import UniRepLKNetBlock


class Cost(tuple):
    """Parameters, MACs, activations."""

    def __add__(self, other):
        return Cost(a + b for a, b in zip(self, other, strict=True))

    def __radd__(self, _):
        return self

    def __mul__(self, times):
        return Cost(times * a for a in self)


def conv(pixels, inputs, outputs, taps=1, bias=True):
    """A convolution: every output number is `inputs * taps` multiplications."""
    weights = outputs * inputs * taps
    return Cost((weights + bias * outputs, pixels * weights, pixels * outputs))


def depthwise(pixels, channels, taps, bias=True):
    """Every output number is `taps` multiplications, whatever the other channels."""
    return conv(pixels, 1, channels, taps, bias)


def vector(numbers):
    """Parameters that multiply or add element by element: no MACs."""
    return Cost((numbers, 0, 0))


def linear(inputs, outputs):
    """One row of numbers; its outputs are no activations of convolutions."""
    return Cost((inputs * outputs + outputs, inputs * outputs, 0))


def tokens(count, inputs, outputs):
    """The same rows of numbers for each of so many tokens."""
    return Cost((inputs * outputs + outputs, count * inputs * outputs, 0))


def attention(queries, keys, inner):
    """Every query by every key, then by every value."""
    return Cost((0, 2 * queries * keys * inner, 0))


C, H, W = 12, 6, 5
P = H * W
norm = vector(2 * C)
STAGE = Stage(depth=1, width=C, mixer="depthwise", kernel=7)
NET = Network(channels=3, outputs=10, stages=(STAGE,) * 4)
GATED = replace(STAGE, gate="se+grn", ratio=0.25, expansion=2.0, norm="batch")
SE = conv(1, C, 3) + conv(1, 3, C)
WIDE = replace(STAGE, mixer="smallkernel", kernel=9, small=3, widening=1.5)
PELK = replace(STAGE, mixer="peripheral", kernel=13, core=2, positional=True, depth=2)
TINY = tuple(
    replace(STAGE, depth=depth, width=width) for depth, width in ((1, 8), (2, 12), (1, 16), (1, 24))
)


def tail(hidden):
    """The pointwise half of a ConvNeXt block."""
    return conv(P, C, hidden) + conv(P, hidden, C)


def block(pixels, width):
    """A ConvNeXt block with 7x7 depthwise, layer norm and layer scale."""
    return (
        depthwise(pixels, width, 49) + vector(2 * width) + conv(pixels, width, 4 * width)
        + conv(pixels, 4 * width, width) + vector(width)
    )  # fmt: skip


LOOK = TransformerStage(1, C, 2, 4, 2.0)
VIT = TransformerNetwork(3, 16, 10, (LOOK, LOOK))
# a block of sixteen tokens: two norms, attention of two heads, an MLP twice as wide
LOOKED = (
    norm * 2 + tokens(16, C, 8) + tokens(16, C, 16) + attention(16, 16, 8) + tokens(16, 8, C)
    + tokens(16, C, 24) + tokens(16, 24, C)
)  # fmt: skip


def unit(pixels, inputs, outputs, taps=1):
    """A convolution without bias and its batch norm; `inputs` are those that each filter sees."""
    return conv(pixels, inputs, outputs, taps, False) + vector(2 * outputs)


NARROW = ResidualStage(1, 16, 1, inner=0.5, groups=2)
LEARNED = ResidualNetwork(3, 10, (NARROW,), skip="rw+lr+pa", rank=2)
# 12 to 8 channels, a 3x3 in two groups, 16 channels, beside a projection; rank 2; five shares
RESIDUAL = (
    unit(P, C, 8) + unit(P, 4, 8, 9) + unit(P, 8, 16) + unit(P, C, 16)
    + conv(P, 16, 2, 1, False) + conv(P, 2, 16, 1, False) + vector(5)
)  # fmt: skip
BASIC = tuple(ResidualStage(depth, 4, 1, inner=1.0) for depth in (1, 2))
MOBILE = MobileStage(1, 16, 1, 5, 2.0, "relu", "se")
PHONE = MobileNetwork(3, 10, (MOBILE,), 4, 2, "relu", head_width=24, head_hidden=20)
INVERTED = unit(P, C, 24) + unit(P, 1, 24, 25) + conv(1, 24, 3) + conv(1, 3, 24) + unit(P, 24, 16)
ONCE = AggregationStage(1, 16, 8, 2, "ese")
SHOT = AggregationNetwork(3, 10, (ONCE,), 4, 8, 2, depthwise=True)


BOTTLENECK = (
    conv(16, C, 24, 1, False) + depthwise(16, 24, 9, False) + conv(16, 24, C, 1, False)
    + vector(2 * (24 + 24 + C))
)  # fmt: skip
FILTERS = FrequencyStage(1, C, 1, True, 4)
# complex layers of four blocks of three channels, at twelve of the sixteen waves
SPECTRUM = vector(2 * 2 * 4 * 3 * 3 + 2 * 2 * C) + Cost((0, 2 * 4 * 12 * C * 3, 8 * 12 * C))
FILTERED = norm * 2 + BOTTLENECK + SPECTRUM
EMITTED = {
    places: Cost((3 * 48 + 2 * 272 + 17 * C, places * (3 * 32 + 2 * 256 + 16 * C), 0))
    for places in (16, 9)
}
MIXED = MixerStage(1, C, "gated", 2, 3, expansion=2)
MIXING = (
    norm * 2 + conv(16, C, 24) + depthwise(16, 18, 9) + conv(16, 6, C) + conv(16, C, C)
    + conv(16, C, 24) + conv(16, 24, C) + vector(2 * C)
)  # fmt: skip
CONNECTED = PerceptronStage(1, C, 2, (1, 3), 2)
INJECTED = (
    Cost((2 * 256, 6 * 2 * 256, 6 * 32)) + Cost((2 + 18, 6 * 16 * 20, 6 * 2 * 32)) + vector(3 * 4)
)
CONNECTING = (
    norm + INJECTED + conv(1, C, 3) + conv(1, 3, C) + norm + conv(16, C, 24, 1, False)
    + vector(48) + conv(16, 24, C, 1, False) + norm
)  # fmt: skip


# Layer -> (the module, the shape of its input, what it costs by hand).
BY_HAND = {
    Depthwise: (Depthwise(C, (3, 31)), (C, H, W), depthwise(P, C, 93)),
    SqueezeExcite: (SqueezeExcite(C, 0.25), (C, H, W), SE),
    ResponseNorm: (ResponseNorm(C), (C, H, W), vector(2 * C)),
    ChannelNorm: (ChannelNorm(C), (C, H, W), norm),
    UnifiedNorm: (UnifiedNorm(C), (C, H, W), norm),
    LayerScale: (LayerScale(C), (C, H, W), vector(C)),
    DropPath: (DropPath(0.5), (C, H, W), vector(0)),
    SpatialMean: (SpatialMean(), (C, H, W), vector(0)),
    FixedMask: (FixedMask(torch.ones(C, 8), 0.5), (C, 8), vector(0)),
    # a third of each third of the channels: 3x3, 1x11, 11x1; the rest passes
    InceptionMixer: (
        InceptionMixer(C, 11, 0.25), (C, H, W),
        depthwise(P, 3, 9) + depthwise(P, 3, 11) * 2,
    ),
    Partial: (Partial(C, 5, Depthwise(5, 7)), (C, H, W), depthwise(P, 5, 49)),
    StripeMixer: (
        StripeMixer(C, 31), (C, H, W),
        depthwise(P, C, 5 * 31, False) * 2 + depthwise(P, C, 25, False) + norm * 3,
    ),
    DilatedMixer: (
        DilatedMixer(C, 9), (C, H, W),
        sum(depthwise(P, C, k * k, False) + norm for k in (9, 5, 5, 3, 3)),
    ),
    SmallKernelMixer: (
        SmallKernelMixer(C, 13, 5), (C, H, W),
        depthwise(P, C, 169, False) + depthwise(P, C, 25, False) + norm * 2,
    ),
    NormedMixer: (NormedMixer(Depthwise(C, 3), C), (C, H, W), depthwise(P, C, 9) + norm),
    # few weights, which are expanded to 13x13 taps before they are multiplied
    PeripheralMixer: (
        PeripheralMixer(C, 13, 2), (C, H, W),
        Cost((C * len(set(cells(13, 2))) ** 2, P * C * 169, P * C)),
    ),
    Parallel: (
        Parallel([nn.Conv2d(C, C, (7, 3), padding=(3, 1), groups=C),
                  nn.Conv2d(C, C, 3, padding=1, groups=C, bias=False)]), (C, H, W),
        depthwise(P, C, 21) + depthwise(P, C, 9, False),
    ),
    Concatenated: (
        Concatenated([nn.Conv2d(C, 4, 3, padding=1), nn.Conv2d(C, 8, 1)], False), (C, H, W),
        conv(P, C, 4, 9) + conv(P, C, 8),
    ),
    # dilations cost nothing
    Patterned: (
        Patterned(nn.Conv2d(C, 16, 3, padding=1), [((1, 1), 8), ((2, 3), 8)]), (C, H, W),
        conv(P, C, 16, 9),
    ),
    BranchedBlock: (
        BranchedBlock(C, C, 1, 1, "none", True), (C, H, W),
        conv(P, C, C, 9, False) + conv(P, C, C, 1, False) + norm * 3,
    ),
    ScaledBlock: (
        ScaledBlock(C, C, 1, 1, 2), (C, H, W),
        conv(P, C, C, 9, False) + conv(P, C, C, 1, False) + vector(3 * C) + norm,
    ),
    # what its gradients are multiplied by is no parameter
    RepOptBlock: (RepOptBlock(C, C, 1, 1, 2), (C, H, W), conv(P, C, C, 9, False) + norm),
    PlainNet: (
        PlainNet(PlainNetwork(3, 10, (PlainStage(2, 8, 2),), 4, 2, "one")), (3, 8, 8),
        conv(16, 3, 4, 9, False) + vector(8) + conv(4, 4, 8, 9, False) + vector(16)
        + conv(4, 8, 8, 9, False) + vector(16) + linear(8, 10),
    ),
    # blocks of 4x4 pixels see windows of 6x6, of 11 distances each way; every query meets all
    HaloAttention: (
        HaloAttention(C, 2, 5, 4, 1), (C, 8, 8),
        conv(64, C, 10) + conv(64, C, 20) + conv(64, 10, C) + vector(2 * 11 * 5)
        + attention(64, 36, 10) + Cost((0, 2 * 64 * 11 * 10, 0)),
    ),
    # queries two pixels apart, without biases: 2 blocks of 2x2 queries each way, windows of 6x6
    HaloLayer: (
        HaloLayer(C, 6, 2, 5, 4, 1, 2, "relu", "batch"), (C, 8, 8),
        conv(16, C, 10, 1, False) + conv(64, C, 16, 1, False) + vector(2 * 11 * 5)
        + Cost((0, 16 * 36 * (10 + 6) + 2 * 16 * 11 * 10, 0)) + vector(12),
    ),
    LocalAttention: (
        LocalAttention(replace(LOOK, attention="halo", block=2, halo=1), 4), (16, C),
        conv(16, C, 8) + conv(16, C, 16) + conv(16, 8, C) + vector(2 * 7 * 4)
        + attention(16, 16, 8) + Cost((0, 2 * 16 * 7 * 8, 0)),
    ),
    Attention: (
        Attention(replace(LOOK, attention="reduced", reduction=2), 4), (16, C),
        tokens(16, C, 8) + conv(4, C, C, 4) + norm + tokens(4, C, 16) + attention(16, 4, 8)
        + tokens(16, 8, C),
    ),
    Mlp: (
        Mlp(LOOK, 4, True), (16, C),
        tokens(16, C, 24) + depthwise(16, 24, 9) + tokens(16, 24, C),
    ),
    TransformerBlock: (TransformerBlock(VIT, LOOK, 4, 0.1), (16, C), LOOKED),
    Embedding: (Embedding(3, C, 4, True), (3, 16, 16), conv(16, 3, C, 49) + norm),
    PlainEmbedding: (PlainEmbedding(3, C, 4), (3, 16, 16), conv(16, 3, C, 16)),
    ResidualReduction: (
        ResidualReduction(C, 16, 4, True), (17, C),
        norm + conv(4, C, 16, 4) + tokens(1, C, 16),
    ),
    HierarchicalStage: (
        HierarchicalStage(VIT, 0, [0.0]), (3, 16, 16),
        conv(16, 3, C, 16) + norm + vector(16 * C) + LOOKED,
    ),
    HierarchicalNet: (
        HierarchicalNet(VIT), (3, 16, 16),
        (conv(16, 3, C, 16) + norm + vector(16 * C) + LOOKED)
        + (conv(4, C, C, 4) + norm + vector(4 * C)
           + norm * 2 + tokens(4, C, 8) + tokens(4, C, 16) + attention(4, 4, 8) + tokens(4, 8, C)
           + tokens(4, C, 24) + tokens(4, 24, C))
        + norm + linear(C, 10),
    ),
    EffectiveSqueeze: (EffectiveSqueeze(C), (C, H, W), conv(1, C, C)),
    EfficientChannel: (EfficientChannel(C), (C, H, W), conv(C, 1, 1, 3, False)),
    SpatialChannel: (
        SpatialChannel(C), (C, H, W),
        conv(1, C, 6) + conv(1, 6, C) + conv(P, C, 1),
    ),
    # a weight for each pixel, their weighted mean, a bottleneck of one channel with a norm
    GlobalContext: (
        GlobalContext(C), (C, H, W),
        conv(P, C, 1) + Cost((0, C * P, 0)) + conv(1, C, 1) + vector(2) + conv(1, 1, C),
    ),
    ScaledConv: (
        ScaledConv(C, 3, 2, 1, False, "relu", "batch"), (C, H, W),
        unit(P, 2, 4, 9) * 2,
    ),
    # four groups for two splits of two; attention of 32 channels in two groups
    SplitAttention: (
        SplitAttention(C, 2, 2, 1, "relu", "batch"), (C, H, W),
        unit(P, 3, 24, 9) + conv(1, 6, 32) + vector(64) + conv(1, 16, 24),
    ),
    SelectiveKernel: (
        SelectiveKernel(C, C, 1, 1, False, "relu", "batch"), (C, H, W),
        unit(P, C, C, 9) * 2 + unit(1, C, 32) + conv(1, 32, 24, bias=False),
    ),
    # both paths have a norm of the input of their own
    DualPathBlock: (
        DualPathBlock(C, 8, 6, 3, 2, 1, "relu", nn.Identity()), (C, H, W),
        norm * 2 + conv(P, C, 12, bias=False) + unit(P, C, 8) + unit(P, 4, 8, 9)
        + conv(P, 8, 9, bias=False),
    ),
    ResidualBlock: (ResidualBlock(LEARNED, NARROW, 0, C, 0.1), (C, H, W), RESIDUAL),
    ResidualStageLayers: (ResidualStageLayers(LEARNED, NARROW, C, [0.0]), (C, H, W), RESIDUAL),
    # activation first: a bare stem and bare projections, a last norm; three equal blocks
    ResidualNet: (
        ResidualNet(ResidualNetwork(3, 10, BASIC, "3x3", 4, 1, block="basic", order="pre")),
        (3, 4, 4),
        conv(16, 3, 4, 9, False)
        + (vector(8) + unit(16, 4, 4, 9) + conv(16, 4, 4, 9, False)) * 3
        + vector(8) + linear(4, 10),
    ),
    MobileBlock: (MobileBlock(PHONE, MOBILE, 0, C, 0.0), (C, H, W), INVERTED),
    # behind the stem 4 channels become 8, gated by one
    MobileNet: (
        MobileNet(PHONE), (3, 8, 8),
        unit(16, 3, 4, 9) + unit(16, 4, 8) + unit(16, 1, 8, 25) + conv(1, 8, 1) + conv(1, 1, 8)
        + unit(16, 8, 16) + unit(16, 16, 24) + linear(24, 20) + linear(20, 10),
    ),
    # depthwise and 1x1 pairs of 8 channels, behind one 1x1; then all of them at once
    AggregationBlock: (
        AggregationBlock(SHOT, ONCE, 0, C, 0.0), (C, H, W),
        unit(P, C, 8) + (conv(P, 1, 8, 9, False) + unit(P, 8, 8)) * 2 + unit(P, C + 16, 16)
        + conv(1, 16, 16),
    ),
    AggregationNet: (
        AggregationNet(SHOT), (3, 8, 8),
        unit(16, 3, 4, 9) + conv(16, 1, 4, 9, False) + unit(16, 4, 4)
        + conv(16, 1, 4, 9, False) + unit(16, 4, 8)
        + (conv(16, 1, 8, 9, False) + unit(16, 8, 8)) * 2 + unit(16, 24, 16) + conv(1, 16, 16)
        + linear(16, 10),
    ),
    # ten numbers of the half spectrum of 4x4 maps; torch's own transform multiplies nothing counted
    GlobalFilter: (GlobalFilter(C, (4, 4)), (C, 4, 4), vector(C * 4 * 3 * 2)),
    AdaptiveFilter: (AdaptiveFilter(C, 4), (C, 4, 4), SPECTRUM),
    # rows and columns by matrices, there and back
    CosineMixer: (
        CosineMixer(C, (4, 6), 4), (C, 4, 6),
        Cost((0, 2 * C * (4 * 4 * 6 + 4 * 6 * 6), 0)) + conv(24, 3, C) * 2,
    ),
    ConditionedConvolution: (
        ConditionedConvolution(C), (C, 4, 4),
        conv(16, C, C) * 2 + depthwise(16, C, 9) + vector(2 * C),
    ),
    GatedConvolution: (
        GatedConvolution(C, Gated(2, 3), (4, 4)), (C, 4, 4),
        conv(16, C, 24) + depthwise(16, 18, 9) + conv(16, 6, C) + conv(16, C, C),
    ),
    LocalGlobalFilter: (
        LocalGlobalFilter(C, (4, 4)), (C, 4, 4),
        norm * 2 + depthwise(16, 6, 9, False) + vector(6 * 4 * 3 * 2),
    ),
    # a matrix of all pixels for each of two sets, of six maps each; 1x1 and 3x3 beside it
    InjectedPerceptron: (
        InjectedPerceptron((4, 4), 2, (1, 3)), (C, 4, 4),
        INJECTED,
    ),
    Bottleneck: (
        Bottleneck(C, C, 1, 2), (C, 4, 4),
        conv(16, C, 24, 1, False) + depthwise(16, 24, 9, False) + conv(16, 24, C, 1, False)
        + vector(2 * (24 + 24 + C)),
    ),
    FilterBlock: (FilterBlock(FILTERS, 2), (C, 4, 4), FILTERED),
    FilterStage: (
        FilterStage(FILTERS, 2), (C, 4, 4),
        FILTERED + norm + conv(16, C, C, 1, False) + norm + conv(16, 24, C, 1, False) + norm,
    ),
    FrequencyNet: (
        FrequencyNet(FrequencyNetwork(3, 10, (replace(FILTERS, stride=1),), C, 1)), (3, 4, 4),
        conv(16, 3, C, 9, False) + norm + BOTTLENECK + FILTERED + norm
        + conv(16, C, C, 1, False) + norm + conv(16, 24, C, 1, False) + norm
        + conv(16, C, 48, 1, False) + vector(96) + linear(48, 10),
    ),
    # networks from 2 coordinates by 16 sines to a number a channel, at 4x4 places and at 3x3
    HyperMixer: (
        HyperMixer(C, (4, 4)), (C, 4, 4),
        EMITTED[16] + EMITTED[9] + Cost((0, 2 * C * 4 * 4 * 4, 0)) + conv(16, 24, C),
    ),
    VariantConvolution: (
        VariantConvolution(C, 3, (4, 4)), (C, 4, 4),
        vector(4 * 16) + conv(16, 4, 16, 9, False) + vector(2 * 16 * 16)
        + conv(16, 16, C * 9, 9, False),
    ),
    # two kernels, mixed for all places at once
    TunableConvolution: (
        TunableConvolution(C, 3), (C, 4, 4),
        Cost((2 * C * 10, 2 * C * 9 + 2 * C + 16 * C * 9, 16 * C)),
    ),
    DeformableConvolution: (
        DeformableConvolution(C, 8, "bounded"), (C, 4, 4),
        conv(16, C, 18, 9) + conv(16, C, 8, 9, False),
    ),
    DeformableMixer: (
        DeformableMixer(C, "square"), (C, 4, 4),
        conv(16, C, 1, 9) + conv(16, C, C, 9, False) + conv(16, C, C),
    ),
    SalientGate: (
        SalientGate(C, 0.5), (C, 4, 4),
        depthwise(16, C, 9) + conv(16, C, 6) + vector(12) + conv(16, 6, 18, 9)
        + conv(16, 6, C, 9, False) + norm,
    ),
    MixerBlock: (MixerBlock(MIXED, (4, 4), 0.0), (C, 4, 4), MIXING),
    MixerNet: (
        MixerNet(MixerNetwork(3, 8, 10, (MIXED,), 2)), (3, 8, 8),
        conv(16, 3, C, 4) + norm + MIXING + norm + linear(C, 10),
    ),
    PerceptronUnit: (PerceptronUnit(CONNECTED, (4, 4)), (C, 4, 4), CONNECTING),
    PerceptronNet: (
        PerceptronNet(PerceptronNetwork(3, 16, 10, (CONNECTED,), 4)), (3, 16, 16),
        conv(16, 3, C, 16, False) + norm + CONNECTING + norm + linear(C, 10),
    ),
    ConvNeXtBlock: (
        ConvNeXtBlock(NET, GATED, 0, 0.1), (C, H, W),
        depthwise(P, C, 49) + norm + SE + tail(2 * C) + vector(4 * C) + vector(C),
    ),
    # no biases before its two batch norms; dilated branches 5x5, 3x3, 3x3 beside 7x7
    UniRepLKNetBlock: (
        UniRepLKNetBlock(NET, replace(STAGE, mixer="dilated"), 0, 0.0), (C, H, W),
        sum(depthwise(P, C, k * k, False) + norm for k in (7, 5, 3, 3)) + norm
        + conv(P, C, 4 * C) + conv(P, 4 * C, C, bias=False) + norm + vector(C),
    ),
    RepLKNetBlock: (
        RepLKNetBlock(NET, WIDE, 0, 0.0), (C, H, W),
        norm + conv(P, C, 18, bias=False) + vector(36)
        + depthwise(P, 18, 81, False) + depthwise(P, 18, 9, False) + vector(2 * 36)
        + conv(P, 18, C, bias=False) + norm
        + norm + conv(P, C, 48, bias=False) + vector(96) + conv(P, 48, C, bias=False) + norm,
    ),
    # a table of 13x13 offsets a channel, shared by two blocks of 9x9 cells
    StageLayers: (
        StageLayers(NET, PELK, nn.Identity(), [0.0, 0.0]), (C, H, W),
        vector(C * 169) + (Cost((C * 81, P * C * 169, P * C)) + norm + tail(4 * C) + vector(C)) * 2,
    ),
    LargeKernelNet: (
        LargeKernelNet(Network(3, 10, TINY)), (3, 64, 64),
        conv(256, 3, 8, 16) + vector(16)
        + block(256, 8)
        + vector(16) + conv(64, 8, 12, 4) + block(64, 12) * 2
        + vector(24) + conv(16, 12, 16, 4) + block(16, 16)
        + vector(32) + conv(4, 16, 24, 4) + block(4, 24)
        + vector(48) + linear(24, 10),
    ),
}  # fmt: skip
# Hold what others use and compute nothing; counted with what owns them.
WITHOUT_FORWARD = {PositionalTable, Fourier}
WITHOUT_INPUT = {Coordinates}  # counted inside the mixer that it emits for
# Torch's Fourier transforms are listed as uncounted, as every published count leaves them out.
TRANSFORMS = {"aten::fft_rfft2", "aten::fft_irfft2"}
SPECTRAL = {
    GlobalFilter, AdaptiveFilter, ConditionedConvolution, LocalGlobalFilter, FilterBlock,
    FilterStage, FrequencyNet,
}  # fmt: skip
# Takes the maps of two paths; counted with the block that owns it.
INSIDE_A_BLOCK = {LearnedSkip}


def layers():
    """Every public layer class that a file of `nas.networks` defines."""
    for found in pkgutil.walk_packages(nas.networks.__path__, "nas.networks."):
        if found.name.endswith(".tritonkernels"):  # imports triton, and defines no layer
            continue
        module = importlib.import_module(found.name)
        for name, thing in inspect.getmembers(module, inspect.isclass):
            own = thing.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(thing, nn.Module):
                yield thing


def test_every_layer_has_a_count_by_hand():
    apart = WITHOUT_FORWARD | WITHOUT_INPUT | INSIDE_A_BLOCK
    found = set(layers())
    assert set(BY_HAND) <= found
    missing = found - set(BY_HAND) - apart
    assert not missing, f"write what these cost by hand: {sorted(c.__name__ for c in missing)}"
    assert not any("forward" in vars(layer) for layer in WITHOUT_FORWARD)


@pytest.mark.parametrize("layer", BY_HAND, ids=lambda layer: layer.__name__)
def test_equal_to_the_count_by_hand(layer):
    module, shape, by_hand = BY_HAND[layer]
    assert type(module) is layer
    counts = count(module, shape)
    assert Cost((counts.params, counts.macs, counts.activations)) == by_hand
    assert set(counts.uncounted) == (TRANSFORMS if layer in SPECTRAL else set())


@pytest.mark.parametrize("layer", BY_HAND, ids=lambda layer: layer.__name__)
def test_equal_to_torchs_counter(layer):
    module, shape, (_, macs, _) = BY_HAND[layer]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on_meta(module)(torch.empty(1, *shape, device="meta"))
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("layer", BY_HAND, ids=lambda layer: layer.__name__)
def test_the_breakdown_of_each_adds_up(layer):
    module, shape, by_hand = BY_HAND[layer]
    rows = count(module, shape).by_module
    keys = ("params", "macs", "activations")
    assert Cost(rows[""][key] for key in keys) == by_hand
    for name, row in rows.items():
        depth = name.count(".") + bool(name)
        within = f"{name}." if name else ""
        inside = [
            r for n, r in rows.items() if n and n.count(".") == depth and n.startswith(within)
        ]
        assert all(sum(r[key] for r in inside) <= row[key] for key in keys)
