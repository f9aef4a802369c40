"""Published residual networks, as choices of the space `resnet`.

Names and sizes are timm's where timm has the network; the CIFAR forms are named by the paper's
depth and width. Sources: ResNet (arXiv 1512.03385), bag of tricks (1812.01187), wide (1605.07146),
activation first (1603.05027), ResNeXt (1611.05431), SENet (1709.01507), SKNet (1903.06586), ECA-Net
(1910.03151), Res2Net (1904.01169), ResNeSt (2004.08955), DPN (1707.01629), ResNet-RS (2103.07579),
RegNet (2003.13678), LAuReL (2411.07501). What a preset does not name takes the first value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas.core.architecture import Choices, Value
from nas.core.scaling import rounded_width

Given = Mapping[str, Value | Sequence[Value]]
Depths = tuple[int, ...]

R18, R26, R34, R50 = (2, 2, 2, 2), (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)
R101, R152, R200, R269 = (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3), (3, 30, 48, 8)
IMAGENET: Given = {"stem.kind": "7x7", "stem.width": 64, "stem.stride": 4, "stem.pool": "max"}
DEEP: Given = {"stem.kind": "deep"}
D: Given = {**DEEP, "shortcut": "pool"}
T: Given = {"stem.kind": "tiered", "shortcut": "pool"}
S: Given = {"stem.kind": "deep", "stem.width": 128}
SE: Given = {"gate": "se", "ratio": 1 / 16}
ECA: Given = {"gate": "eca"}


def assemble(depths: Depths, widths: Sequence[int], given: Given) -> dict[str, Value]:
    """Choices of a network and its stages; a sequence in `given` has one value for each stage."""
    choices: dict[str, Value] = {"stages": len(depths)}
    per_stage = {
        "inner", "groups", "conv", "scale", "radix", "gate", "ratio", "increment",
        "attends", "heads", "head", "window", "halo",
    }  # fmt: skip
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        choices |= {f"stages.{i}.depth": depth, f"stages.{i}.width": width}
    for name, value in given.items():
        if name in per_stage:
            values = [value] * len(depths) if isinstance(value, str | int | float) else value
            choices |= {f"stages.{i}.{name}": v for i, v in enumerate(values)}
        else:
            assert isinstance(value, str | int | float)
            choices[name] = value
    return choices


def doubled(first: int, stages: int = 4) -> list[int]:
    """Widths, each twice the one before."""
    return [first * 2**i for i in range(stages)]


def basic(depths: Depths, *given: Given) -> dict[str, Value]:
    """A network of two 3x3 convolutions a block, for ImageNet."""
    extra = {name: value for part in given for name, value in part.items()}
    return assemble(depths, doubled(64), {**IMAGENET, "block": "basic", "inner": 1.0, **extra})


def bottleneck(depths: Depths, *given: Given) -> dict[str, Value]:
    """A network of 1x1, 3x3 and 1x1 convolutions, for ImageNet."""
    extra = {name: value for part in given for name, value in part.items()}
    return assemble(
        depths, doubled(256), {**IMAGENET, "block": "bottleneck", "inner": 0.25, **extra}
    )


def cardinal(groups: int, width: int) -> Given:
    """ResNeXt's `groups` x `width`d: groups, and channels of a group in the first stage."""
    return {"groups": groups, "inner": groups * width / 256}


def scales(width: int, scale: int, groups: int = 1) -> Given:
    """Res2Net's `width`w`scale`s, with a cardinality in Res2NeXt."""
    inner = width * groups * scale / 256
    return {"conv": "scales", "scale": scale, "groups": groups, "inner": inner}


def splits(
    depths: Depths, stem: int, radix: int = 2, groups: int = 1, width: int = 64, fast: bool = False
) -> dict[str, Value]:
    """ResNeSt's `radix`s`groups`x`width`d; the fast ones average before the splits."""
    split: Given = {"conv": "split", "radix": radix, "groups": groups}
    return bottleneck(
        depths, D, split,
        {"inner": width * groups / 256, "stem.width": 2 * stem},
        {"shrink": "before" if fast else "after"},
    )  # fmt: skip


def revisited(depths: Depths) -> dict[str, Value]:
    """ResNet-RS: ResNet-D, a convolution in place of the pool, a wide squeeze-and-excitation."""
    return bottleneck(depths, D, {"stem.pool": "conv", "gate": "se", "ratio": 1 / 4})


def tiered(depths: Depths, *given: Given) -> dict[str, Value]:
    """timm's `ts` networks: a stem that widens, gates inside the bottleneck."""
    extra = {name: value for part in given for name, value in part.items()}
    return bottleneck(depths, {"stem.kind": "tiered", "gate.at": "inner"}, extra)


def attending(depths: Depths, where: Sequence[str], *given: Given) -> dict[str, Value]:
    """timm's `ts` networks with HaloNet's attention in some bottlenecks, of 8x8 pixels a block."""
    choices = tiered(depths, {"activation": "silu", "attends": where, "window": 8}, *given)
    idle = {"none": ("heads", "head", "window", "halo"), "all": ("gate",)}
    for i, place in enumerate(where):
        for name in idle.get(place, ()):
            choices.pop(f"stages.{i}.{name}", None)
    del choices["stages.0.attends"]  # which never does
    return choices


def narrow33(*given: Given) -> dict[str, Value]:
    """timm's `33ts` networks: uneven widths, no pool, a convolution before the last layer."""
    extra = {name: value for part in given for name, value in part.items()}
    choices = tiered((2, 3, 3, 2), {"stem.pool": "last", "activation": "silu"}, extra)
    widths = {f"stages.{i}.width": w for i, w in enumerate((256, 512, 1536, 1536))}
    return {**choices, **widths, "head.width": 1280}


def first(depths: Depths, widths: Sequence[int], *given: Given) -> dict[str, Value]:
    """A network with the activation first."""
    extra = {name: value for part in given for name, value in part.items()}
    return assemble(depths, widths, {**IMAGENET, "order": "pre", **extra})


CIFAR: Given = {"stem.kind": "3x3", "stem.stride": 1}


def wide(depth: int, factor: int) -> dict[str, Value]:
    """Wide ResNet `depth`-`factor` for CIFAR: `6 n + 4` layers in three stages."""
    blocks = (depth - 4) // 6
    given: Given = {**CIFAR, "stem.width": 16, "block": "basic", "inner": 1.0}
    return first((blocks,) * 3, doubled(16 * factor, 3), given)


def preactivated(depth: int) -> dict[str, Value]:
    """ResNet-164 and -1001 for CIFAR: `9 n + 2` layers, strides in the first 1x1."""
    given: Given = {**CIFAR, "stem.width": 16, "block": "bottleneck", "inner": 0.25}
    return first(((depth - 2) // 9,) * 3, doubled(64, 3), given, {"shrink": "reduce"})


def cardinal29(groups: int) -> dict[str, Value]:
    """ResNeXt-29 for CIFAR, groups of 64 channels in the first stage."""
    given: Given = {"block": "bottleneck", "groups": groups, "inner": groups / 4}
    return assemble((3, 3, 3), doubled(256, 3), {**CIFAR, "stem.width": 64, **given})


def dual(
    depths: Depths, width: int, spatial: int, groups: int, stem: int, increments: Sequence[int]
) -> dict[str, Value]:
    """A dual-path network; `spatial` is of the first stage."""
    given: Given = {
        "stem.kind": "7x7" if stem > 10 else "3x3",
        "stem.width": stem,
        "block": "dual",
        "inner": spatial / width,
        "groups": groups,
        "increment": increments,
    }
    return assemble(depths, doubled(width), {**IMAGENET, **given})


def regnet(
    initial: int,
    slope: float,
    factor: float,
    group: int,
    depth: int,
    gated: bool = False,
    torchvision: bool = False,
) -> dict[str, Value]:
    """RegNet X, or Y when `gated`, from its line of widths; torchvision rounds them otherwise.

    Block `j` has the width `initial * factor**s`, `s` the nearest whole step to the line
    `initial + slope * j`, in multiples of 8; then each stage is made a multiple of its group.
    """
    steps = [round(math.log(1 + slope * j / initial) / math.log(factor)) for j in range(depth)]
    found = [round(initial * factor**s / 8) * 8 for s in steps]
    widths, depths, groups = sorted(set(found)), [], []
    for i, width in enumerate(widths):
        depths.append(found.count(width))
        own = min(group, width)
        widths[i] = rounded_width(width, own) if torchvision else round(width / own) * own
        groups.append(widths[i] // own)
    return assemble(
        tuple(depths),
        widths,
        {
            "stem.kind": "3x3",
            "stem.width": 32,
            "stem.stride": 2,
            "stages.0.stride": 2,
            "block": "bottleneck",
            "inner": 1.0,
            "groups": groups,
            "gate": "se" if gated else "none",
            "ratio": 1 / 4,
            "gate.at": "inner",
            "gate.of": "input",
        },
    )


def learned(kind: str, rank: int = 16) -> dict[str, Value]:
    """ResNet-50 with LAuReL's skips."""
    return bottleneck(R50, {"skip": kind, "rank": rank})


RESNETS: dict[str, Choices] = {
    **{f"resnet{n}": basic(d) for n, d in {18: R18, 34: R34}.items()},
    **{f"resnet{n}d": basic(d, D) for n, d in {18: R18, 34: R34}.items()},
    **{f"resnet{n}": bottleneck(d) for n, d in {26: R26, 50: R50, 101: R101, 152: R152}.items()},
    **{f"resnet{n}c": bottleneck(d, DEEP) for n, d in {50: R50, 101: R101, 152: R152}.items()},
    **{
        f"resnet{n}d": bottleneck(d, D)
        for n, d in {26: R26, 50: R50, 101: R101, 152: R152, 200: R200}.items()
    },
    **{f"resnet{n}s": bottleneck(d, S) for n, d in {50: R50, 101: R101, 152: R152}.items()},
    **{f"resnet{n}t": bottleneck(d, T) for n, d in {26: R26, 50: R50}.items()},
    "resnet50_v1": bottleneck(R50, {"shrink": "reduce"}),  # as in the first paper
    "resnet50_gn": bottleneck(R50, {"norm": "group"}),
    "resnet18_mish": basic(R18, {"activation": "mish"}),
    "resnet50_mish": bottleneck(R50, {"activation": "mish"}),
    **{f"wide_resnet{n}_2": bottleneck(d, {"inner": 0.5}) for n, d in {50: R50, 101: R101}.items()},
    "resnet53": bottleneck((3, 4, 7, 3)),
    **{f"resnet50_laurel_{kind.replace('+', '_')}": learned(kind)
       for kind in ("rw", "lr", "rw+lr", "rw+lr+pa")},
}  # fmt: skip
FIRST: dict[str, Choices] = {
    **{
        f"resnetv2_{n}{'d' if form else ''}": first(
            d, doubled(64), {"block": "basic", "inner": 1.0}, form
        )
        for n, d in {18: R18, 34: R34}.items()
        for form in ({}, D)
    },
    **{
        f"resnetv2_{n}": first(d, doubled(256), {"block": "bottleneck", "inner": 0.25})
        for n, d in {50: R50, 101: R101}.items()
    },
    **{f"wrn_{d}_{k}": wide(d, k) for d, k in (
        (16, 4), (16, 8), (16, 10), (22, 8), (28, 2), (28, 10), (28, 12), (40, 1), (40, 2), (40, 8)
    )},
    "preresnet_164": preactivated(164),
    "preresnet_1001": preactivated(1001),
}  # fmt: skip
CARDINAL: dict[str, Choices] = {
    "resnext50_32x4d": bottleneck(R50, cardinal(32, 4)),
    "resnext50d_32x4d": bottleneck(R50, cardinal(32, 4), D),
    **{f"resnext101_32x{w}d": bottleneck(R101, cardinal(32, w)) for w in (4, 8, 16, 32)},
    "resnext101_64x4d": bottleneck(R101, cardinal(64, 4)),
    "resnext152_32x4d": bottleneck(R152, cardinal(32, 4)),
    "resnext29_8x64d": cardinal29(8),
    "resnext29_16x64d": cardinal29(16),
}
GATED: dict[str, Choices] = {
    "seresnet50": bottleneck(R50, SE),
    "seresnet152d": bottleneck(R152, SE, D),
    "senet154": bottleneck(
        R152, SE, S, cardinal(64, 4), {"inner": 1.0, "shortcut": "conv3", "reduce": 0.5}
    ),
    **{f"legacy_seresnet{n}": basic(d, SE) for n, d in {18: R18, 34: R34}.items()},
    **{
        f"legacy_seresnet{n}": bottleneck(d, SE, {"shrink": "reduce"})
        for n, d in {50: R50, 101: R101, 152: R152}.items()
    },
    **{
        f"legacy_seresnext{n}_32x4d": bottleneck(d, SE, cardinal(32, 4))
        for n, d in {26: R26, 50: R50, 101: R101}.items()
    },
    **{f"ecaresnet{n}": basic(d, ECA) for n, d in {18: R18, 34: R34}.items()},
    **{f"ecaresnet{n}": bottleneck(d, ECA) for n, d in {50: R50, 101: R101, 152: R152}.items()},
    **{f"ecaresnet{n}d": bottleneck(d, ECA, D) for n, d in {50: R50, 269: R269}.items()},
    **{f"ecaresnet{n}t": bottleneck(d, ECA, T) for n, d in {26: R26, 50: R50}.items()},
    "ecaresnetlight": bottleneck((1, 1, 11, 3), ECA, {"shortcut": "pool"}),
    "skresnet18": basic(R18, {"conv": "select"}),
    "skresnext50_32x4d": bottleneck(R50, cardinal(32, 4), {"conv": "select"}),
    **{
        f"{name}resnext26ts": tiered(
            R26, {"activation": "silu", "groups": (2, 4, 8, 16), "gate": gate}
        )
        for name, gate in {"": "none", "eca_": "eca", "gc": "gc"}.items()
    },
    **{
        f"{name}resnet33ts": narrow33({"gate": gate, "ratio": (1 / 8, 1 / 16, 1 / 16, 1 / 16)})
        for name, gate in {"se": "se", "eca_": "eca", "gc": "gc"}.items()
    },
    "gcresnet50t": tiered(R50, {"gate": "gc", "stem.pool": "last"}),
    "gcresnext50ts": tiered(R50, {"activation": "silu", "groups": (2, 4, 8, 16), "gate": "gc"}),
}
LOCAL: dict[str, Choices] = {
    "halonet50ts": attending(
        R50, ("none", "last", "others", "others"), {"heads": (0, 4, 8, 8), "halo": 3}
    ),
    "eca_halonext26ts": attending(
        R26, ("none", "none", "others", "all"),
        {"heads": 8, "head": 16, "halo": 2, "groups": (4, 8, 16, 32), **ECA},
    ),
    "halo2botnet50ts": attending(  # the last stage is BoTNet's, on the maps of 256 pixels a side
        R50, ("none", "others", "others", "others"),
        {"heads": (0, 8, 8, 4), "halo": (0, 3, 3, 0), "stem.pool": "last"},
    ),
}  # fmt: skip
MULTISCALE: dict[str, Choices] = {
    **{
        f"res2net50_{w}w_{s}s": bottleneck(R50, scales(w, s))
        for w, s in ((48, 2), (26, 4), (26, 6), (14, 8), (26, 8))
    },
    "res2net101_26w_4s": bottleneck(R101, scales(26, 4)),
    "res2net50d": bottleneck(R50, scales(26, 4), D),
    "res2net101d": bottleneck(R101, scales(26, 4), D),
    "res2net200d": bottleneck((3, 12, 48, 3), scales(26, 4), D),  # the authors' v1d
    "res2next50": bottleneck(R50, scales(4, 4, 8)),
}
RADIX: dict[str, Choices] = {
    "resnest14d": splits((1, 1, 1, 1), 32),
    "resnest26d": splits(R26, 32),
    "resnest50d": splits(R50, 32),
    "resnest101e": splits(R101, 64),
    "resnest200e": splits(R200, 64),
    "resnest269e": splits(R269, 64),
    **{
        f"resnest50d_{r}s{k}x{w}d": splits(R50, 32, r, k, w, fast=True)
        for r, k, w in (
            (1, 1, 64), (2, 1, 64), (4, 1, 64), (1, 2, 40), (2, 2, 40), (4, 2, 40), (1, 4, 24)
        )
    },
}  # fmt: skip
DUAL: dict[str, Choices] = {
    "dpn48b": {**dual((3, 4, 6, 3), 64, 128, 32, 10, (16, 32, 32, 64)), "activation": "silu"},
    "dpn68": dual((3, 4, 12, 3), 64, 128, 32, 10, (16, 32, 32, 64)),
    "dpn92": dual((3, 4, 20, 3), 256, 96, 32, 64, (16, 32, 24, 128)),
    "dpn98": dual((3, 6, 20, 3), 256, 160, 40, 96, (16, 32, 32, 128)),
    "dpn107": dual((4, 8, 20, 3), 256, 200, 50, 128, (20, 64, 64, 128)),
    "dpn131": dual((4, 8, 28, 3), 256, 160, 40, 128, (16, 32, 32, 128)),
}
REVISITED: dict[str, Choices] = {
    "resnetrs50": revisited(R50),
    "resnetrs101": revisited(R101),
    "resnetrs152": revisited(R152),
    "resnetrs200": revisited(R200),
    "resnetrs270": revisited((4, 29, 53, 4)),
    "resnetrs350": revisited((4, 36, 72, 4)),
    "resnetrs420": revisited((4, 44, 87, 4)),
}
LINES = {  # size -> (initial width, slope, factor, group, depth)
    "x_002": (24, 36.44, 2.49, 8, 13),
    "x_004": (24, 24.48, 2.54, 16, 22),
    "x_006": (48, 36.97, 2.24, 24, 16),
    "x_008": (56, 35.73, 2.28, 16, 16),
    "x_016": (80, 34.01, 2.25, 24, 18),
    "x_032": (88, 26.31, 2.25, 48, 25),
    "x_040": (96, 38.65, 2.43, 40, 23),
    "x_064": (184, 60.83, 2.07, 56, 17),
    "x_080": (80, 49.56, 2.88, 120, 23),
    "x_120": (168, 73.36, 2.37, 112, 19),
    "x_160": (216, 55.59, 2.1, 128, 22),
    "x_320": (320, 69.86, 2.0, 168, 23),
    "y_002": (24, 36.44, 2.49, 8, 13),
    "y_004": (48, 27.89, 2.09, 8, 16),
    "y_006": (48, 32.54, 2.32, 16, 15),
    "y_008": (56, 38.84, 2.4, 16, 14),
    "y_016": (48, 20.71, 2.65, 24, 27),
    "y_032": (80, 42.63, 2.66, 24, 21),
    "y_040": (96, 31.41, 2.24, 64, 22),
    "y_064": (112, 33.22, 2.27, 72, 25),
    "y_080": (192, 76.82, 2.19, 56, 17),
    "y_120": (168, 73.36, 2.37, 112, 19),
    "y_160": (200, 106.23, 2.48, 112, 18),
    "y_320": (232, 115.89, 2.53, 232, 20),
    "y_640": (352, 147.48, 2.4, 328, 20),
    "y_1280": (456, 160.83, 2.52, 264, 27),
    "y_2560": (640, 230.83, 2.53, 373, 27),
}
REGNETS: dict[str, Choices] = {
    **{f"regnet{name}": regnet(*line, gated=name[0] == "y") for name, line in LINES.items()},
    **{
        f"regnet{name}_tv": regnet(*LINES[name], gated=name[0] == "y", torchvision=True)
        for name in ("x_004", "y_008", "y_080")
    },
}
PRESETS: Mapping[str, Choices] = {
    **RESNETS, **FIRST, **CARDINAL, **GATED, **LOCAL, **MULTISCALE, **RADIX, **DUAL, **REVISITED,
    **REGNETS,
}  # fmt: skip
