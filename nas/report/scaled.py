"""What a point became when it was scaled, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from nas.report.numbers import plain
from nas.report.tables import listing


def scale_table(found: Mapping[str, Any]) -> RenderableType:
    """The factors, counts before and after against the target, and every decision that changed."""
    head = Text.assemble(
        (f"{found['study']}:{found['trial']}", "bold"),
        f"  {found['factor']:g} times by {found['rule']}: ",
        ", ".join(f"{name} x {value:.3g}" for name, value in found["factors"].items()),
    )
    counts = [
        {"": name, "before": plain(c["before"]), "after": plain(c["after"]),
         "times": f"{c['times']:.2f}"}
        for name, c in found["counts"].items()
    ]  # fmt: skip
    ratio = found["counts"]["macs"]["after"] / found["target_macs"]
    sides = [" x ".join(map(str, side)) for side in found["resolution"]]
    aimed = f"asked for {plain(found['target_macs'])} MACs: {100 * (ratio - 1):+.1f} % off"
    changed = [
        {"decision": name, "before": str(old), "after": str(new)}
        for name, (old, new) in found["changed"].items()
    ]
    right = ("before", "after", "times")
    parts: list[RenderableType] = [
        head, Text(), listing(counts, "", right=right), Text(aimed, style="dim"), Text(),
        Text(f"images of {sides[0]} pixels become {sides[1]}"), Text(),
        listing(changed, "no decision changed", right=right), Text(),
    ]  # fmt: skip
    if found["written"]:
        parts.append(Text(f"written: {found['written']}, a space of this one network"))
    else:
        parts.append(Text("--name NAME writes it as a space of this one network"))
    lines = [f"train it on images of {sides[1]} pixels:", *found["train"]]
    return Group(*parts, *map(Text, lines))
