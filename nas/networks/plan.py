"""A network of the large-kernel family as data; `nas.networks.skeleton` builds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage: `depth` equal blocks on maps of one size.

    Args:
        width: channels.
        mixer: `depthwise`, `inception`, `dilated`, `stripe`, `peripheral`, `smallkernel` or
            `identity`.
        kernel: taps a side of the mixer's large kernel.
        fraction: share of the channels convolved (of each of three groups, for `inception`).
        period: one block in `period`, the first, has the large kernel; the others a plain 3x3.
        expansion: hidden over outer width of the pointwise layers.
        norm: of ConvNeXt blocks, `layer` or `batch`; the other blocks have batch norm.
        activation: `gelu`, `relu`, `silu` or `hardswish`.
        gate: `none`, `se`, `grn` or `se+grn`.
        ratio: bottleneck of squeeze-and-excitation over the width.
        small: size of `smallkernel`'s small kernel.
        core: single-tap cells beside `peripheral`'s centre.
        positional: whether `peripheral` has a positional table.
        widening: channels that RepLKNet's large kernel sees, over the width.
    """

    depth: int
    width: int
    mixer: str
    kernel: int = 3
    fraction: float = 1.0
    period: int = 1
    expansion: float = 4.0
    norm: str = "layer"
    activation: str = "gelu"
    gate: str = "none"
    ratio: float = 0.25
    small: int = 5
    core: int = 2
    positional: bool = False
    widening: float = 1.0


@dataclass(frozen=True)
class Network:
    """The skeleton around the stages.

    Args:
        channels: of the input.
        outputs: size of the output.
        stages: four of them.
        stem: `patch`, `overlapping` or `deep`.
        stride: of the stem, 1, 2 or 4.
        stem_norm: `layer` or `batch`, for the patch and overlapping stems.
        block: `convnext`, `unireplknet` or `replknet`.
        downsample: `patch`, `overlapping` or `depthwise`.
        downsample_norm: `layer` or `batch`, for the patch and overlapping ones.
        head: `linear` or `mlp`.
        head_norm: `layer` or `batch`, for the linear head.
        layer_scale: whether residual branches end in a learned factor a channel.
        drop_path: chance that the last block's branch is dropped; earlier ones less, in proportion.
        density: share of the weights that are not fixed at zero.
    """

    channels: int
    outputs: int
    stages: tuple[Stage, ...]
    stem: str = "patch"
    stride: int = 4
    stem_norm: str = "layer"
    block: str = "convnext"
    downsample: str = "patch"
    downsample_norm: str = "layer"
    head: str = "linear"
    head_norm: str = "layer"
    layer_scale: bool = True
    drop_path: float = 0.0
    density: float = 1.0
