"""Published VoVNets, as choices of the space `osa`; names and sizes are timm's."""

from __future__ import annotations

from collections.abc import Mapping

from nas.core.architecture import Choices, Value

DEPTHS = {"19": (1, 1, 1, 1), "39": (1, 1, 2, 2), "57": (1, 1, 4, 3), "99": (1, 3, 9, 3)}


def vovnet(
    size: str, second: bool = False, slim: bool = False, depthwise: bool = False,
    gate: str = "ese", gated: str = "last",
) -> dict[str, Value]:  # fmt: skip
    """VoVNet `size`, or its second version with identities and gates.

    The first stage of timm's slim networks ends with 112 channels, not the authors' 128.
    """
    choices: dict[str, Value] = {
        "stages": 4,
        "stem.width": 64,
        "stem.end": 64 if depthwise else 128,
        "stem.stride": 4,
        "depthwise": depthwise,
        "residual": second,
        "gated": gated,
    }
    inner = (64, 80, 96, 112) if slim else (128, 160, 192, 224)
    width = (112, 256, 384, 512) if slim else (256, 512, 768, 1024)
    for i, depth in enumerate(DEPTHS[size]):
        choices |= {
            f"stages.{i}.depth": depth,
            f"stages.{i}.width": width[i],
            f"stages.{i}.inner": inner[i],
            f"stages.{i}.layers": 3 if size == "19" else 5,
            f"stages.{i}.gate": gate if second else "none",
        }
    return choices


PRESETS: Mapping[str, Choices] = {
    "vovnet39a": vovnet("39"),
    "vovnet57a": vovnet("57"),
    **{f"ese_vovnet{size}b": vovnet(size, True) for size in DEPTHS},
    "ese_vovnet19b_dw": vovnet("19", True, depthwise=True),
    "ese_vovnet19b_slim": vovnet("19", True, slim=True),
    "ese_vovnet19b_slim_dw": vovnet("19", True, slim=True, depthwise=True),
    "eca_vovnet39b": vovnet("39", True, gate="eca"),
    **{f"vovnetv2_{size}": vovnet(size, True, gated="every") for size in DEPTHS},
}
