"""Published networks of the large-kernel family, as choices of the space `largekernel`.

Sizes are those of the papers and their official code: ConvNeXt (arXiv 2201.03545; atto to nano are
timm's), ConvNeXt V2 (2301.00808), InceptionNeXt (2303.16900), RepLKNet (2203.06717), SLaK
(2207.03620), PeLK (2403.07589), UniRepLKNet (2311.15599). SLaK and PeLK publish counts of weights
that are not zero, 60 % of them; their widths are 1.3 times ConvNeXt's. PeLK's published counts
leave no room for its positional table (1.1 M in B), so its presets have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core.architecture import Choices, Value

Stage = Mapping[str, Value]

SMALL = (2, 2, 6, 2)
NANO = (2, 2, 8, 2)
TINY = (3, 3, 9, 3)
LARGE = (3, 3, 27, 3)
CONVNEXT = {  # size -> (first width, depths, drop path)
    "a": (40, SMALL, 0.0),
    "f": (48, SMALL, 0.0),
    "p": (64, SMALL, 0.0),
    "n": (80, NANO, 0.0),
    "t": (96, TINY, 0.1),
    "s": (96, LARGE, 0.4),
    "b": (128, LARGE, 0.5),
    "l": (192, LARGE, 0.5),
    "xl": (256, LARGE, 0.5),
    "h": (352, LARGE, 0.5),
}
UNIREPLKNET = {  # size -> (first width, depths, period of the large kernel in the third stage)
    "a": (40, SMALL, 1),
    "f": (48, SMALL, 1),
    "p": (64, SMALL, 1),
    "n": (80, NANO, 1),
    "t": (80, (3, 3, 18, 3), 2),
    "s": (96, LARGE, 3),
    "b": (128, LARGE, 3),
    "l": (192, LARGE, 3),
    "xl": (256, LARGE, 3),
}
PATCHES: Stage = {
    "stem.kind": "patch",
    "stem.stride": 4,
    "stem.norm": "layer",
    "block": "convnext",
    "layer_scale": True,
    "downsample.kind": "patch",
    "downsample.norm": "layer",
    "head.kind": "linear",
    "head.norm": "layer",
    "drop_path": 0.0,
    "density": 1.0,
}
BLOCK: Stage = {"expansion": 4, "activation": "gelu", "gate": "none"}


def assemble(
    skeleton: Stage, widths: Sequence[int], depths: Sequence[int], stages: Sequence[Stage]
) -> dict[str, Value]:
    """Choices of a skeleton and four stages; a stage needs only what differs from `BLOCK`."""
    choices = dict(skeleton)
    for i, (width, depth, stage) in enumerate(zip(widths, depths, stages, strict=True)):
        filled = {"width": width, "depth": depth, **BLOCK, **stage}
        choices |= {f"stages.{i}.{name}": value for name, value in filled.items()}
    return choices


def doubled(first: int) -> list[int]:
    """Four widths, each twice the one before."""
    return [first * 2**i for i in range(4)]


def widened(first: int) -> list[int]:
    """SLaK's and PeLK's widths, 1.3 times the doubled ones, rounded down.

    >>> widened(96)
    [124, 249, 499, 998]
    """
    return [width * 13 // 10 for width in doubled(first)]


def convnext(size: str, second: bool = False) -> dict[str, Value]:
    """ConvNeXt, or its second version: response norm instead of layer scale."""
    first, depths, drop = CONVNEXT[size]
    stage: Stage = {"mixer": "depthwise", "kernel": 7, "fraction": 1.0, "period": 1}
    stage = {**stage, "norm": "layer", "gate": "grn" if second else "none"}
    skeleton = {**PATCHES, "layer_scale": not second, "drop_path": drop}
    return assemble(skeleton, doubled(first), depths, [stage] * 4)


def inceptionnext(
    first: int, depths: Sequence[int], band: int = 11, fraction: float = 1 / 8
) -> dict[str, Value]:
    """InceptionNeXt: batch norms, a two-layer head, a narrower last expansion."""
    stage: Stage = {"mixer": "inception", "kernel": band, "fraction": fraction, "period": 1}
    stage = {**stage, "norm": "batch"}
    skeleton = {**PATCHES, "stem.norm": "batch", "downsample.norm": "batch", "head.kind": "mlp"}
    del skeleton["head.norm"]
    return assemble(skeleton, doubled(first), depths, [stage] * 3 + [{**stage, "expansion": 3}])


def replknet(
    first: int, kernels: Sequence[int], small: int = 5, widening: float = 1.0
) -> dict[str, Value]:
    """RepLKNet; `small` 0 leaves out the small kernels, as in XL."""
    mixer: Stage = {"mixer": "smallkernel", "small": small} if small else {"mixer": "depthwise"}
    mixer = {**mixer, "fraction": 1.0, "period": 1, "widening": widening}
    skeleton: Stage = {
        "stem.kind": "deep",
        "stem.stride": 4,
        "block": "replknet",
        "downsample.kind": "depthwise",
        "head.kind": "linear",
        "head.norm": "batch",
        "drop_path": 0.5,
        "density": 1.0,
    }
    stages = [{**mixer, "kernel": kernel} for kernel in kernels]
    return assemble(skeleton, doubled(first), (2, 2, 18, 2), stages)


def slak(size: str, kernels: Sequence[int] = (51, 49, 47, 13)) -> dict[str, Value]:
    """SLaK: two stripes and a square, sparse weights."""
    first, depths, drop = CONVNEXT[size]
    stage: Stage = {"mixer": "stripe", "fraction": 1.0, "period": 1, "norm": "layer"}
    skeleton = {**PATCHES, "drop_path": drop, "density": 0.6}
    stages = [{**stage, "kernel": kernel} for kernel in kernels]
    return assemble(skeleton, widened(first), depths, stages)


def pelk(size: str, kernels: Sequence[int] = (51, 49, 47, 13), core: int = 2) -> dict[str, Value]:
    """PeLK: kernels that share weights outwards, on 3/8 of the channels, sparse weights."""
    first, depths, drop = CONVNEXT[size]
    stage: Stage = {"mixer": "peripheral", "core": core, "positional": False, "fraction": 3 / 8}
    stage = {**stage, "period": 1, "norm": "layer"}
    skeleton = {**PATCHES, "drop_path": drop, "density": 0.6}
    stages = [{**stage, "kernel": kernel} for kernel in kernels]
    return assemble(skeleton, widened(first), depths, stages)


def unireplknet(size: str) -> dict[str, Value]:
    """UniRepLKNet: 3x3 first, then dilated 13x13, in the third stage one block in `period`."""
    first, depths, period = UNIREPLKNET[size]
    gates: Stage = {"gate": "se+grn", "ratio": 1 / 4}
    small: Stage = {**gates, "mixer": "depthwise", "kernel": 3, "fraction": 1.0}
    large: Stage = {**gates, "mixer": "dilated", "kernel": 13, "fraction": 1.0}
    skeleton = {
        **PATCHES,
        "stem.kind": "overlapping",
        "block": "unireplknet",
        "downsample.kind": "overlapping",
    }
    stages = [small, *({**large, "period": p} for p in (1, period, 1))]
    return assemble(skeleton, doubled(first), depths, stages)


PELK101 = (101, 69, 67, 13)
PRESETS: Mapping[str, Choices] = {
    **{f"convnext_{size}": convnext(size) for size in CONVNEXT if size != "h"},
    **{f"convnextv2_{size}": convnext(size, True) for size in CONVNEXT if size not in ("s", "xl")},
    "inceptionnext_a": inceptionnext(40, SMALL, 9, 1 / 4),
    "inceptionnext_t": inceptionnext(96, TINY),
    "inceptionnext_s": inceptionnext(96, LARGE),
    "inceptionnext_b": inceptionnext(128, LARGE),
    "replknet_31b": replknet(128, (31, 29, 27, 13)),
    "replknet_31l": replknet(192, (31, 29, 27, 13)),
    "replknet_xl": replknet(256, (27, 27, 27, 13), small=0, widening=1.5),
    **{f"slak_{size}": slak(size) for size in "tsb"},
    "slak_t_k31": slak("t", (31, 29, 27, 13)),
    "slak_t_k61": slak("t", (61, 59, 57, 13)),
    **{f"pelk_{size}": pelk(size) for size in "tsb"},
    "pelk_t101": pelk("t", PELK101, core=3),
    "pelk_b101": pelk("b", PELK101, core=3),
    **{f"unireplknet_{size}": unireplknet(size) for size in UNIREPLKNET},
}
