"""What the picture and the page of a front share: titles, axes, and how membership looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.core.front import Front, Member
from nas.report.axes import Axis, Numbers, axis, pairs
from nas.report.tables import counted

Dominated = Sequence[tuple[int, Numbers]]


@dataclass(frozen=True)
class Look:
    """How a membership is drawn; shapes differ as well as colours, for every kind of eye."""

    marker: str
    color: str


# Colours of Okabe and Ito (2008), told apart with every common colour vision.
LOOKS = {
    "certain": Look("o", "#0072B2"),
    "likely": Look("s", "#C77A00"),
    "possible": Look("^", "#B5488A"),
}


def title(front: Front) -> str:
    """What is drawn: study, space and device."""
    return f"{front.study}: {front.space} on {front.device}"


def footer(front: Front, made: str, beyond: int = 0, cut: bool = False) -> str:
    """What the plot rests on: trials, runtimes or bases of the numbers, and `made`: version, date.

    `beyond` is how many dominated trials lie outside the plot; `cut` is whether any interval of the
    front goes on beyond it, as arrows say.
    """
    parts = [counted(front.trials), *_runtimes(front), *_bases(front), made]
    if beyond:
        parts.insert(1, f"{beyond} far behind, outside the plot")
    if cut:
        parts.insert(1, "arrows: the interval goes on")
    if front.unlike:
        parts.insert(1, f"cannot be compared: trial {', '.join(map(str, front.unlike))}")
    return "  ·  ".join(parts)


def cut_off(front: Front, panels: Sequence[tuple[Axis, Axis]]) -> bool:
    """Whether the interval of any point of the front goes on beyond its panel."""
    axes = {a.name: a for pair in panels for a in pair}
    return any(any(a.beyond(m.measurements[n])) for m in front.members for n, a in axes.items())


def inside(dominated: Dominated, panels: Sequence[tuple[Axis, Axis]]) -> Dominated:
    """The dominated trials that every panel has room for."""
    axes = {a.name: a for pair in panels for a in pair}
    return [
        (trial, numbers)
        for trial, numbers in dominated
        if all(a.shows(numbers[name].value) for name, a in axes.items())
    ]


def panel_axes(front: Front, dominated: Dominated) -> list[tuple[Axis, Axis]]:
    """The axes of each panel, wide enough for the front and the dominated trials."""
    members = [m.measurements for m in front.members]
    others = [numbers for _, numbers in dominated]
    return [(axis(x, members, others), axis(y, members, others)) for x, y in pairs(front)]


def is_predicted(member: Member, x: Axis, y: Axis) -> bool:
    """Whether either number of a point is predicted rather than measured."""
    return any(member.measurements[a.name].source == "predicted" for a in (x, y))


def _bases(front: Front) -> list[str]:
    """What predicted numbers rest on: `predicted (datasheet)`."""
    numbers = [m for member in front.members for m in member.measurements.values()]
    bases = sorted({m.basis for m in numbers if m.source == "predicted"})
    return [f"predicted ({', '.join(bases)})"] if bases else []


def _runtimes(front: Front) -> list[str]:
    """What ran the timed files: `onnxruntime 1.23.0`."""
    records = [m.record for member in front.members for m in member.measurements.values()]
    sessions = [session for record in records for session in record.get("sessions", ())]
    versions = {pair for session in sessions for pair in session["runtime"].items()}
    return [f"{name} {version}" for name, version in sorted(versions)]
