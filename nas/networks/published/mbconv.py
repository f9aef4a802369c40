"""Published mobile networks, as choices of the space `mbconv`.

EfficientNet (arXiv 1905.11946), MobileNetV2 (1801.04381; with ECA, 1910.03151) and V3 (1905.02244)
under timm's names, SkipblockNet (2107.11170). What a preset does not name takes the first value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas.core.architecture import Choices, Value
from nas.core.scaling import rounded_width

Stage = Mapping[str, Value]

BASE = (  # EfficientNet-B0: depth, width, stride, kernel, expansion
    (1, 16, 1, 3, 1),
    (2, 24, 2, 3, 6),
    (2, 40, 2, 5, 6),
    (3, 80, 2, 3, 6),
    (3, 112, 1, 5, 6),
    (4, 192, 2, 5, 6),
    (1, 320, 1, 3, 6),
)
MULTIPLIERS = {  # size -> (width, depth, pixels, dropout)
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "b8": (2.2, 3.6, 672, 0.5),
}
V2 = ((1, 16, 1, 1), (2, 24, 2, 6), (3, 32, 2, 6), (4, 64, 2, 6), (3, 96, 1, 6), (3, 160, 2, 6),
      (1, 320, 1, 6))  # fmt: skip


def assemble(around: Stage, stages: Sequence[Stage]) -> dict[str, Value]:
    """Choices of a network and of its stages."""
    choices = {**around, "stages": len(stages)}
    for i, stage in enumerate(stages):
        choices |= {f"stages.{i}.{name}": value for name, value in stage.items()}
    return choices


def efficientnet(size: str) -> dict[str, Value]:
    """EfficientNet-B0 to B8, scaled by the authors' multipliers and roundings."""
    width, depth, _, dropout = MULTIPLIERS[size]
    around: Stage = {
        "stem.width": rounded_width(32 * width),
        "stem.stride": 2,
        "activation": "silu",
        "head.width": rounded_width(1280 * width),
        "ratio": 1 / 4,
        "dropout": dropout,
        "drop_path": 0.2,
    }
    return assemble(
        around,
        [
            {
                "depth": math.ceil(d * depth),
                "width": rounded_width(w * width),
                "stride": stride,
                "kernel": kernel,
                "expansion": expansion,
                "activation": "silu",
                "gate": "se",
            }
            for d, w, stride, kernel, expansion in BASE
        ],
    )


def mobilenetv2(gate: str = "none") -> dict[str, Value]:
    """MobileNetV2 at its full width."""
    around: Stage = {
        "stem.width": 32, "stem.stride": 2, "activation": "relu6", "head.width": 1280,
        "dropout": 0.2,
    }  # fmt: skip
    stage: Stage = {"kernel": 3, "activation": "relu6", "gate": gate}
    return assemble(
        around,
        [{**stage, "depth": d, "width": w, "stride": s, "expansion": e} for d, w, s, e in V2],
    )


def mobilenetv3(long: bool = False, skips: bool = False) -> dict[str, Value]:
    """MobileNetV3-Large; `long`, SkipblockNet's third block of 40 channels, with its `skips`.

    A stage here is a run of equal blocks, so the paper's stages fall into several.
    """
    around: Stage = {
        "stem.width": 16, "stem.stride": 2, "activation": "hardswish",
        "ratio": 1 / 4, "ratio.of": "hidden",
        "gate.activation": "relu", "gate.squash": "hardsigmoid", "head.width": 960,
        "head.hidden": 1280, "dropout": 0.2,
    }  # fmt: skip

    def run(d: int, w: int, s: int, k: int, e: float, act: str, gate: str) -> dict[str, Value]:
        return {"depth": d, "width": w, "stride": s, "kernel": k, "expansion": e,
                "activation": act, "gate": gate}  # fmt: skip

    forty = [run(3, 40, 2, 5, 3, "relu", "se")]
    if long:
        forty = [run(2, 40, 2, 5, 3, "relu", "se"), run(1, 40, 1, 5, 6, "hardswish", "se")]
    stages: list[dict[str, Value]] = [
        run(1, 16, 1, 3, 1, "relu", "none"),
        run(1, 24, 2, 3, 4, "relu", "none"),
        run(1, 24, 1, 3, 3, "relu", "none"),
        *forty,
        run(1, 80, 2, 3, 6, "hardswish", "none"),
        run(1, 80, 1, 3, 2.5, "hardswish", "none"),
        run(2, 80, 1, 3, 2.3, "hardswish", "none"),
        run(2, 112, 1, 3, 6, "hardswish", "se"),
        run(3, 160, 2, 5, 6, "hardswish", "se"),
    ]
    if skips:
        stages[4] |= {"skip": 6, "skip_kernel": 5}
        stages[7] |= {"skip": 2.3, "skip_kernel": 3}
    return assemble(around, stages)


PRESETS: Mapping[str, Choices] = {
    **{f"efficientnet_{size}": efficientnet(size) for size in MULTIPLIERS},
    "mobilenetv2_100": mobilenetv2(),
    "ecamobilenetv2_100": mobilenetv2("eca"),
    "mobilenetv3_large_100": mobilenetv3(),
    "skipblocknet": mobilenetv3(long=True, skips=True),
    "skipblocknet_plain": mobilenetv3(long=True),
}
