"""Published RepVGG and RepOpt-VGG networks, as choices of the space `repopt`.

RepVGG's names are timm's. RepOpt-VGG is published under B1, L1 and L2, B2 in its code.
"""

from __future__ import annotations

from collections.abc import Mapping

from nas.core.architecture import Choices, Value

DEPTHS = {"a": (2, 4, 14, 1), "b": (4, 6, 16, 1), "d": (8, 14, 24, 1), "l": (8, 14, 24, 1)}
WIDTHS = {
    "a0": (0.75, 0.75, 0.75, 2.5), "a1": (1, 1, 1, 2.5), "a2": (1.5, 1.5, 1.5, 2.75),
    "b0": (1, 1, 1, 2.5), "b1": (2, 2, 2, 4), "b2": (2.5, 2.5, 2.5, 5), "b3": (3, 3, 3, 5),
    "d2": (2.5, 2.5, 2.5, 5), "l1": (2, 2, 2, 4), "l2": (2.5, 2.5, 2.5, 5),
}  # fmt: skip


def plain(size: str, branches: str, groups: int = 1, gate: str = "none") -> dict[str, Value]:
    """A network of published depths and widths."""
    widths = WIDTHS[size]
    choices: dict[str, Value] = {
        "stem.width": min(64, int(64 * widths[0])), "stem.stride": 2, "branches": branches,
        "gate": gate,
    }  # fmt: skip
    for i, (depth, factor) in enumerate(zip(DEPTHS[size[0]], widths, strict=True)):
        at = f"stages.{i}."
        choices |= {at + "depth": depth, at + "width": int(64 * 2**i * factor), at + "stride": 2}
        choices[at + "groups"] = groups
    return choices


PRESETS: Mapping[str, Choices] = {
    **{f"repvgg_{size}": plain(size, "three") for size in WIDTHS if size[0] in "ab"},
    **{
        f"repvgg_{size}g{groups}": plain(size, "three", groups)
        for size in ("b1", "b2", "b3")
        for groups in (2, 4)
    },
    "repvgg_d2se": plain("d2", "three", gate="se"),
    **{f"repopt_vgg_{size}": plain(size, "repopt") for size in ("b1", "b2", "l1", "l2")},
}
