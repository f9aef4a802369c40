"""Published HorNets, AFFNets and RepMLPNets, as choices of the space `mixer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core.architecture import Choices, Value

HORNETS = {"tiny": 64, "small": 96, "base": 128, "large": 192}
AFFNETS = {
    "et": ((32, 48, 64, 104, 144), 2), "t": ((32, 48, 96, 160, 192), 4),
    "base": ((32, 64, 128, 256, 320), 4),
}  # fmt: skip
REPMLPS = {
    "t": (64, (2, 2, 6, 2), (1, 4, 16, 128)), "b": (96, (2, 2, 12, 2), (1, 4, 32, 128)),
    "d": (80, (2, 2, 18, 2), (1, 4, 16, 128)), "l": (96, (2, 2, 18, 2), (1, 4, 32, 256)),
}  # fmt: skip


def hornet(size: str, filtered: bool = False) -> dict[str, Value]:
    """HorNet with 7x7 convolutions, or with global filters in its last two stages."""
    choices: dict[str, Value] = {"skeleton": "meta", "meta.patch": 4, "meta.drop_path": 0.0}
    for i, (depth, order) in enumerate(zip((2, 3, 18, 2), (2, 3, 4, 5), strict=True)):
        at = f"meta.stages.{i}."
        choices |= {
            at + "depth": depth, at + "width": HORNETS[size] * 2**i, at + "mixer": "gated",
            at + "order": order, at + "kernel": 0 if filtered and i > 1 else 7,
            at + "scale": 1 / 3, at + "expansion": 4,
        }  # fmt: skip
    return choices


def affnet(widths: Sequence[int], expansion: int) -> dict[str, Value]:
    """AFFNet: two plain stages, three that filter."""
    choices: dict[str, Value] = {
        "skeleton": "frequency", "frequency.stem.stride": 2, "frequency.stem.width": 16,
        "frequency.expansion": expansion, "frequency.inner": 2, "frequency.blocks": 8,
        "frequency.threshold": 0.01, "frequency.head": 4,
    }  # fmt: skip
    for i, (depth, width) in enumerate(zip((1, 3, 2, 4, 3), widths, strict=True)):
        choices |= {f"frequency.stages.{i}.depth": depth, f"frequency.stages.{i}.width": width}
    return choices


def repmlp(base: int, depths: Sequence[int], sets: Sequence[int]) -> dict[str, Value]:
    """RepMLPNet, for images of the size that it is built for."""
    choices: dict[str, Value] = {
        "skeleton": "perceptron", "perceptron.patch": 4, "perceptron.local": "1+3",
        "perceptron.expansion": 4,
    }  # fmt: skip
    for i, (depth, shared) in enumerate(zip(depths, sets, strict=True)):
        at = f"perceptron.stages.{i}."
        choices |= {at + "depth": depth, at + "width": base * 2**i, at + "sets": shared}
    return choices


PRESETS: Mapping[str, Choices] = {
    **{f"hornet_{size}_7x7": hornet(size) for size in HORNETS},
    **{f"hornet_{size}_gf": hornet(size, True) for size in HORNETS},
    **{f"affnet_{size}": affnet(*plan) for size, plan in AFFNETS.items()},
    **{f"repmlpnet_{size}": repmlp(*plan) for size, plan in REPMLPS.items()},
}
