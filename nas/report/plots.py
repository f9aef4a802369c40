"""`nas front STUDY --plot FILE.png`: the front with its doubts, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.errors import NasError
from nas.core.front import Front, Member
from nas.core.membership import verdict
from nas.report.axes import Axis, Numbers, place_labels, staircase
from nas.report.drawing import (
    LOOKS,
    Dominated,
    Look,
    cut_off,
    footer,
    inside,
    is_predicted,
    panel_axes,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FADED, RULE = "#9aa0a6", "#5f6368"


def draw(front: Front, dominated: Dominated, path: Path, made: str) -> None:
    """Writes the picture of a front.

    Args:
        front: the points to draw.
        dominated: trial numbers and measurements of the other complete trials.
        path: where to write, ending in .png.
        made: by which version and when, written at its foot.

    Raises:
        NasError: for another ending, an empty front, or where the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise NasError(
            f"cannot draw a {path.suffix or 'file without ending'}: {str(path)!r}",
            f"end the name in .html or .png: --plot {path.parent / (path.stem or 'front')}.html",
        )
    if not front.members:
        raise NasError(
            f"the front of {front.study!r} is empty: nothing to draw",
            f"see why: nas show {front.study}",
        )
    content = png(front, dominated, made)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise NasError(
            f"cannot write {str(path)!r}: {error.strerror}",
            "name a file in a folder you may write to, with space left",
        ) from error


def png(front: Front, dominated: Dominated, made: str) -> bytes:
    """A PNG of 1600 pixels' width or more, a panel for each objective beyond the first."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = panel_axes(front, dominated)
    shown = inside(dominated, panels)
    figure = Figure(figsize=(8 if len(panels) == 1 else 6.4 * len(panels), 5.6), dpi=200)
    FigureCanvasAgg(figure)
    places: Any = figure.subplots(1, len(panels), squeeze=False)
    for place, (x, y) in zip(places[0], panels, strict=True):
        _panel(place, front, shown, x, y)
    note = footer(front, made, len(dominated) - len(shown), cut_off(front, panels))
    figure.suptitle(title(front), fontsize=13, fontweight="bold", x=0.02, y=0.975, ha="left")
    figure.text(0.02, 0.015, note, fontsize=8, color=RULE, ha="left")
    figure.legend(*places[0][0].get_legend_handles_labels(), loc="upper left", ncols=8,
                  bbox_to_anchor=(0.01, 0.945), fontsize=10, frameon=False, handletextpad=0.2,
                  columnspacing=1.2)  # fmt: skip
    figure.tight_layout(rect=(0, 0.035, 1, 0.955))
    for place, (x, y) in zip(places[0], panels, strict=True):
        _labels(place, front, shown, x, y)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _panel(place: Axes, front: Front, dominated: Dominated, x: Axis, y: Axis) -> None:
    """One panel: dominated trials, the border of the front, then its points with their bars."""
    if x.log:
        place.set_xscale("log")
    if y.log:
        place.set_yscale("log")
    place.set_xlim(x.low, x.high)
    place.set_ylim(y.low, y.high)
    faded = [(n[x.name].value, n[y.name].value) for _, n in dominated]
    if faded:
        across, up = zip(*faded, strict=True)
        place.scatter(across, up, s=22, color=FADED, alpha=0.55, linewidths=0, label="dominated")
    points = [(m.measurements[x.name].value, m.measurements[y.name].value) for m in front.members]
    if len(front.objectives) == 2:
        place.plot(*zip(*staircase(points, x, y), strict=True), color=FADED, lw=1.0, ls=(0, (4, 3)),
                   zorder=2)  # fmt: skip
    for word, look in LOOKS.items():
        members = [m for m in front.members if verdict(m.membership) == word]
        for member in members:
            _bars(place, member, x, y, look.color)
        if members:
            _marks(place, members, x, y, word, look)
    place.set_xlabel(x.label, fontsize=11)
    place.set_ylabel(y.label, fontsize=11)
    for direction, ax in (("x", x), ("y", y)):
        values, texts = zip(*ax.ticks, strict=True)
        getattr(place, f"set_{direction}ticks")(values, texts, fontsize=10)
        getattr(place, f"set_{direction}ticks")([], minor=True)
    place.grid(color="#e6e8eb", lw=0.8)
    place.set_axisbelow(True)
    place.spines[["top", "right"]].set_visible(False)


def _bars(place: Axes, member: Member, x: Axis, y: Axis, color: str) -> None:
    """The interval of a repeat in both directions, with an arrow where it goes on."""
    across, up = member.measurements[x.name], member.measurements[y.name]
    style: dict[str, Any] = {"color": color, "lw": 1.1, "alpha": 0.55, "zorder": 3}
    place.plot([across.low, across.high], [up.value, up.value], **style)
    place.plot([across.value, across.value], [up.low, up.high], **style)
    heads = [(x.low, up.value, "<"), (x.high, up.value, ">"),
             (across.value, y.low, "v"), (across.value, y.high, "^")]  # fmt: skip
    for (right, top, marker), beyond in zip(heads, x.beyond(across) + y.beyond(up), strict=True):
        if beyond:
            place.plot([right], [top], marker=marker, ms=7, clip_on=False, **style)


def _marks(place: Axes, members: Sequence[Member], x: Axis, y: Axis, word: str, look: Look) -> None:
    """The points of one membership; predicted numbers are drawn hollow."""
    for hollow in (False, True):
        chosen = [m for m in members if is_predicted(m, x, y) is hollow]
        if chosen:
            across = [m.measurements[x.name].value for m in chosen]
            up = [m.measurements[y.name].value for m in chosen]
            place.scatter(
                across, up, s=58, marker=look.marker, zorder=4, linewidths=1.3,
                edgecolors=look.color if hollow else "white",
                facecolors="white" if hollow else look.color,
                label=f"front, {word}, predicted" if hollow else f"front, {word}",
            )  # fmt: skip


def _labels(place: Axes, front: Front, dominated: Dominated, x: Axis, y: Axis) -> None:
    """Trial numbers beside their points, moved until they overlap as little as possible."""
    box = place.get_window_extent()
    scale = place.figure.dpi / 72

    def pixel(numbers: Numbers) -> tuple[float, float]:
        return (x.at(numbers[x.name].value) * box.width, y.at(numbers[y.name].value) * box.height)

    points = [pixel(m.measurements) for m in front.members]
    obstacles = [pixel(numbers) for _, numbers in dominated]
    widest = max(len(str(m.trial)) for m in front.members)
    size = (6.2 * widest * scale, 10 * scale)
    centres = place_labels(points, size, obstacles, (box.width, box.height), 6 * scale)
    for member, (px, py) in zip(front.members, centres, strict=True):
        place.annotate(
            str(member.trial), (px / box.width, py / box.height), xycoords="axes fraction",
            ha="center", va="center", fontsize=9.5, zorder=5,
            color=LOOKS[verdict(member.membership)].color,
        )  # fmt: skip
