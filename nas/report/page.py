"""The HTML page of a front: one file, its own SVG and style, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nas.core.front import Front, Member
from nas.core.membership import verdict
from nas.report.axes import Axis, Numbers, place_labels, staircase
from nas.report.drawing import LOOKS, Dominated, footer, inside, is_predicted, panel_axes, title
from nas.report.networks import describe, grouped, telling
from nas.report.numbers import interval, percent
from nas.report.tables import origin

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 52
INNER = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)

STYLE = """
:root { color-scheme: light dark; --ink: #202124; --soft: #5f6368; --paper: #fff; --line: #e3e5e8;
  --faded: #9aa0a6; --certain: #0072b2; --likely: #b46a00; --possible: #b5488a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa0a6; --paper: #17181b;
  --line: #33363b; --faded: #80868b; --certain: #56b4e9; --likely: #e69f00; --possible: #e08cc0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
p, figcaption { color: var(--soft); margin: .25rem 0; }
figure { margin: 1rem 0; overflow-x: auto; }
svg { display: block; width: 100%; height: auto; min-width: 36rem;
  font: 14px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg .name { fill: var(--ink); }
.grid { stroke: var(--line); } .stairs { fill: none; stroke: var(--faded);
  stroke-dasharray: 5 4; }
.faded { fill: var(--faded); opacity: .5; }
.certain { --c: var(--certain); } .likely { --c: var(--likely); }
.possible { --c: var(--possible); }
.mark { fill: var(--c); stroke: var(--paper); stroke-width: 1.5; }
.predicted .mark { fill: var(--paper); stroke: var(--c); }
.bar { stroke: var(--c); stroke-width: 1.5; opacity: .6; }
svg .label { fill: var(--c); font-weight: 600; }
g.point:hover .bar { stroke-width: 3; opacity: 1; } g.point:hover .mark { stroke: var(--ink); }
.key { display: inline-block; margin-right: 1rem; } .key svg { display: inline; width: 16px;
  min-width: 0; vertical-align: -2px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; } td.net { white-space: normal; min-width: 14rem;
  color: var(--soft); }
""".strip()


def page(front: Front, dominated: Dominated, made: str) -> str:
    """The whole page: title, a figure for each panel, the table of the front."""
    panels = panel_axes(front, dominated)
    shown = inside(dominated, panels)
    figures = "\n".join(_figure(front, shown, x, y) for x, y in panels)
    note = footer(front, made, len(dominated) - len(shown))
    name = escape(title(front))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{name}</h1>
<p>{_keys(front, bool(dominated))}</p>
{figures}
<p>Bars: where a repeat of the whole step falls with 90 %. Rest on a point to see its network.</p>
{_table(front)}
<p>{escape(note)}</p>
</body>
</html>
"""


def _figure(front: Front, dominated: Dominated, x: Axis, y: Axis) -> str:
    """One panel as an SVG that scales with the page."""
    parts = [*_grid(x, y)]
    for trial, numbers in dominated:
        px, py = _pixel(numbers, x, y)
        told = escape(f"trial {trial}, dominated\n{_numbers(numbers)}")
        parts.append(f'<circle class="faded" cx="{px:.1f}" cy="{py:.1f}" r="4">'
                     f"<title>{told}</title></circle>")  # fmt: skip
    points = [_values(m, x, y) for m in front.members]
    if len(front.objectives) == 2:
        path = " ".join(f"{_x(a, x):.1f},{_y(b, y):.1f}" for a, b in staircase(points, x, y))
        parts.append(f'<polyline class="stairs" points="{path}"/>')
    places = _label_places(front, dominated, x, y)
    for member, place in zip(front.members, places, strict=True):
        parts.append(_point(member, x, y, place))
    label = escape(f"{y.label}; {x.label}")
    body = "\n".join(parts)
    return (
        f'<figure>\n<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n'
        f"{body}\n</svg>\n</figure>"
    )


def _grid(x: Axis, y: Axis) -> list[str]:
    """Grid lines with their numbers, and the names of the axes."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, text in x.ticks:
        at = _x(value, x)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 20}" text-anchor="middle">{text}</text>')
    for value, text in y.ticks:
        at = _y(value, y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 5:.1f}" text-anchor="end">{text}</text>')
    middle_x, middle_y = LEFT + INNER[0] / 2, TOP + INNER[1] / 2
    parts.append(f'<text class="name" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f"{escape(x.label)}</text>")  # fmt: skip
    parts.append(f'<text class="name" transform="translate(15 {middle_y}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y.label)}</text>')  # fmt: skip
    return parts


def _point(member: Member, x: Axis, y: Axis, label: tuple[float, float]) -> str:
    """A point of the front: bars, mark, number, and what shows when the pointer rests on it."""
    across, up = member.measurements[x.name], member.measurements[y.name]
    px, py = _x(across.value, x), _y(up.value, y)
    word = verdict(member.membership)
    kind = f"point {word}" + (" predicted" if is_predicted(member, x, y) else "")
    choices = "\n".join(f"{n}: {v}" for n, v in grouped(member.choices).items())
    sure = f"{word} on the front ({percent(member.membership)})"
    told = f"trial {member.trial}, {sure}\n{_numbers(member.measurements)}\n{choices}"
    return "\n".join((
        f'<g class="{kind}">',
        f"<title>{escape(told)}</title>",
        f'<line class="bar" x1="{_x(across.low, x):.1f}" x2="{_x(across.high, x):.1f}" '
        f'y1="{py:.1f}" y2="{py:.1f}"/>',
        f'<line class="bar" x1="{px:.1f}" x2="{px:.1f}" '
        f'y1="{_y(up.low, y):.1f}" y2="{_y(up.high, y):.1f}"/>',
        _mark(word, px, py),
        f'<text class="label" x="{label[0]:.1f}" y="{label[1] + 5:.1f}" text-anchor="middle">'
        f"{member.trial}</text>",
        "</g>",
    ))  # fmt: skip


def _mark(word: str, px: float, py: float, size: float = 6.0) -> str:
    """The shape of a membership: a disc, a square, a triangle."""
    if word == "certain":
        return f'<circle class="mark" cx="{px:.1f}" cy="{py:.1f}" r="{size}"/>'
    if word == "likely":
        return (f'<rect class="mark" x="{px - size:.1f}" y="{py - size:.1f}" '
                f'width="{2 * size}" height="{2 * size}"/>')  # fmt: skip
    corners = ((0, -1.15), (1.1, 0.85), (-1.1, 0.85))
    path = " ".join(f"{px + size * a:.1f},{py + size * b:.1f}" for a, b in corners)
    return f'<polygon class="mark" points="{path}"/>'


def _keys(front: Front, dominated: bool) -> str:
    """The legend: each membership that occurs, and the dominated trials."""
    words = sorted({verdict(m.membership) for m in front.members}, key=list(LOOKS).index)
    keys = [f'<span class="key {w}"><svg viewBox="0 0 16 16">{_mark(w, 8, 8, 5.5)}</svg> {w}</span>'
            for w in words]  # fmt: skip
    if dominated:
        keys.append('<span class="key"><svg viewBox="0 0 16 16"><circle class="faded" cx="8" cy="8"'
                    ' r="4"/></svg> dominated</span>')  # fmt: skip
    if any(m.source == "predicted" for p in front.members for m in p.measurements.values()):
        keys.append('<span class="key">hollow: predicted, not measured</span>')
    return "Membership of the front: " + "".join(keys)


def _table(front: Front) -> str:
    """The front as a table: the same numbers as on the terminal."""
    order = telling(m.choices for m in front.members)
    names = [o.name for o in front.objectives]
    head = "".join(f"<th>{escape(t)}</th>" for t in ("trial", *names, "on the front", "network"))
    rows = []
    for member in front.members:
        numbers = [member.measurements[n] for n in names]
        sure = f"{verdict(member.membership)} {percent(member.membership)}"
        cells = "".join(
            f'<td title="{escape(origin(m), quote=True)}">{escape(interval(m))}</td>'
            for m in numbers
        )
        about = escape(describe(member.choices, order))
        rows.append(f"<tr><td>{member.trial}</td>{cells}<td>{escape(sure)}</td>"
                    f'<td class="net">{about}</td></tr>')  # fmt: skip
    body = "\n".join(rows)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _label_places(
    front: Front, dominated: Dominated, x: Axis, y: Axis
) -> Sequence[tuple[float, float]]:
    """Centres of the trial numbers in the SVG's own coordinates."""

    # labels are placed with y upwards, so that they stand above their points where they can
    def upwards(numbers: Numbers) -> tuple[float, float]:
        px, py = _pixel(numbers, x, y)
        return px, HEIGHT - BOTTOM - py

    points = [upwards(m.measurements) for m in front.members]
    others = [upwards(numbers) for _, numbers in dominated]
    widest = max(len(str(m.trial)) for m in front.members)
    area = (float(WIDTH - RIGHT), float(HEIGHT - BOTTOM))
    placed = place_labels(points, (8.5 * widest, 14.0), others, area)
    return [(px, HEIGHT - BOTTOM - py) for px, py in placed]


def _numbers(numbers: Numbers) -> str:
    return "\n".join(f"{n}: {interval(m)} ({origin(m)})" for n, m in numbers.items())


def _values(member: Member, x: Axis, y: Axis) -> tuple[float, float]:
    return member.measurements[x.name].value, member.measurements[y.name].value


def _pixel(numbers: Numbers, x: Axis, y: Axis) -> tuple[float, float]:
    return _x(numbers[x.name].value, x), _y(numbers[y.name].value, y)


def _x(value: float, x: Axis) -> float:
    return LEFT + x.at(value) * INNER[0]


def _y(value: float, y: Axis) -> float:
    return TOP + (1 - y.at(value)) * INNER[1]
