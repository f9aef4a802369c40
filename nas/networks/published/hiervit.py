"""Published vision transformers, as choices of the space `hiervit`; names are timm's or alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core.architecture import Choices, Value

PVT = {"tiny": (2, 2, 2, 2), "small": (3, 4, 6, 3), "medium": (3, 4, 18, 3), "large": (3, 8, 27, 3)}
PVT2 = {
    "b0": (2, 2, 2, 2), "b1": (2, 2, 2, 2), "b2": (3, 4, 6, 3), "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3), "b5": (3, 6, 40, 3),
}  # fmt: skip
VIT = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}


def staged(
    depths: Sequence[int], head: int, expansions: Sequence[float], attention: str, **around: Value
) -> dict[str, Value]:
    """Four stages of 1, 2, 5 and 8 heads, whose widths are those of their heads."""
    choices: dict[str, Value] = {"stages": 4, "patch": 4, **around}
    for i, (depth, heads, reduction) in enumerate(
        zip(depths, (1, 2, 5, 8), (8, 4, 2, 1), strict=True)
    ):
        at = f"stages.{i}."
        choices |= {
            at + "depth": depth, at + "width": heads * head, at + "heads": heads, at + "head": head,
            at + "expansion": expansions[i], at + "attention": attention,
        }  # fmt: skip
        if attention == "reduced":
            choices[at + "reduction"] = reduction
    return choices


def pvt(size: str) -> dict[str, Value]:
    """PVT: patches, positions, a class token in the last stage."""
    around: dict[str, Value] = {
        "embedding": "patch", "positions": True, "token": "last", "depthwise": False,
        "norms": "last",
    }  # fmt: skip
    return staged(PVT[size], 64, (8.0, 8.0, 4.0, 4.0), "reduced", **around)


def pvt_v2(size: str, attention: str = "reduced") -> dict[str, Value]:
    """PVTv2: overlapping patches, depthwise convolutions, no positions and no token."""
    around: dict[str, Value] = {
        "embedding": "overlapping", "positions": False, "token": "none", "depthwise": True,
        "norms": "every",
    }  # fmt: skip
    expansions = (4.0,) * 4 if size == "b5" else (8.0, 8.0, 4.0, 4.0)
    return staged(PVT2[size], 32 if size == "b0" else 64, expansions, attention, **around)


def vit(size: str) -> dict[str, Value]:
    """The plain transformer on patches of 16 pixels."""
    width, heads = VIT[size]
    return {
        "stages": 1, "patch": 16, "positions": True, "token": "first", "depthwise": False,
        "stages.0.depth": 12, "stages.0.width": width, "stages.0.heads": heads,
        "stages.0.head": 64, "stages.0.expansion": 4.0, "stages.0.attention": "global",
    }  # fmt: skip


PRESETS: Mapping[str, Choices] = {
    **{f"pvt_{size}": pvt(size) for size in PVT},
    **{f"pvt_v2_{size}": pvt_v2(size) for size in PVT2},
    "pvt_v2_b2_li": pvt_v2("b2", "linear"),
    **{f"vit_{size}_patch16_224": vit(size) for size in VIT},
}
