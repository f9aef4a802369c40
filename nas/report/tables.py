"""Tables for people: plain text that fits 80 columns, coloured where the terminal can."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.core.front import Front, Member
from nas.core.measurement import Measurement
from nas.core.membership import verdict
from nas.core.objective import Constraint
from nas.core.retarget import Retarget
from nas.report.gains import gains, told
from nas.report.networks import describe, grouped, telling, word
from nas.report.numbers import compact, interval, percent, plain, with_unit
from nas.report.pick import Pick

WIDTH, REMARK = 80, 60
OTHERS = 5  # trials named that may be on the front though another looks better
STYLES = {"certain": "bold green", "likely": "yellow", "possible": "red"}
STATES = ("complete", "stopped", "infeasible", "failed", "running")


def front_table(front: Front, width: int = WIDTH) -> RenderableType:
    """A front for people: two lines for each point, the numbers and the network.

    Args:
        front: what to show.
        width: columns that the table may take.
    """
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(front.study, style="bold")
    head.append(f"  {front.space} on {front.device}  {counted(front.trials)}", style="dim")
    if not front.members:
        return Group(head, Text("no point on the front"))
    return Group(head, Text(), *front_rows(front, width), *_legend(front))


def retarget_table(found: Retarget, width: int = WIDTH) -> RenderableType:
    """The front on the new device, how the order changed, who came and who went."""
    tau, front = found.tau, found.front
    order = "not known"
    if tau.value is not None:
        order = f"Kendall tau {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}] of {tau.n} networks"
    numbers = [(found.measured, "measured"), (found.predicted, "predicted"),
               (found.missing, "without a number")]  # fmt: skip
    rows = [
        (f"from {found.origin}", order),
        ("joined", ", ".join(map(str, found.joined)) or "nobody"),
        ("left", ", ".join(map(str, found.left)) or "nobody"),
        ("candidates", ", ".join(f"{n} {word}" for n, word in numbers if n)),
        *((f"trial {n}", f"failed: {' '.join(why.split())}") for n, why in found.failed.items()),
    ]
    return Group(front_table(front, width), Text(), pair_table(rows))


def front_rows(front: Front, width: int = WIDTH, most: int | None = None) -> list[Text]:
    """The lines of the table alone, of the first `most` members."""
    members = front.members[:most] if most is not None else front.members
    rows = [_cells(front, m, interval) for m in members]
    if _total(_widths(front, rows)) > width:
        rows = [_cells(front, m, compact) for m in members]
    widths = _widths(front, rows)
    order = telling(m.choices for m in front.members)
    lines = [_line(_titles(front), widths, "bold")]
    for member, cells in zip(members, rows, strict=True):
        row = _line(cells, widths)
        row.stylize(STYLES[verdict(member.membership)], *_span(widths))
        lines += [row, *_about(front, member, widths[0] + 2, width, order)]
    if len(members) < len(front.members):
        lines.append(Text(f"and {len(front.members) - len(members)} more", style="dim"))
    return lines


def _about(
    front: Front, member: Member, indent: int, width: int, order: Sequence[str]
) -> list[Text]:
    """The network of a row, and what it gains over the one that was brought."""
    texts = [describe(member.choices, order)]
    if front.untouched is not None:
        same = member.trial == front.untouched.trial
        own = gains(member.measurements, front.untouched.measurements)
        texts.insert(0, "the untouched network" if same else f"against trial 0: {told(own)}")
    if member.limits:
        texts.insert(0, f"of limits: {', '.join(_kept(member.limits))}")
    lines = []
    for text in filter(None, texts):
        line = Text(" " * indent + text, style="dim", no_wrap=True, overflow="ellipsis")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _kept(limits: Mapping[str, Measurement]) -> list[str]:
    """Each limit with the number that is held against it: `9.1 in latency_ms:b1-8<=12`."""
    return [f"{_held(number)} in {text}{_perhaps(number, text)}" for text, number in limits.items()]


def _held(number: Measurement) -> str:
    """A number that a limit is of: of a prediction with its interval, which alone breaks limits."""
    return interval(number) if number.source == "predicted" else plain(number.value)


def _perhaps(number: Measurement, limit: str) -> str:
    """What to add where a prediction is beyond its limit, and its interval is not."""
    return " (may keep it)" if Constraint.parse(limit).violation(number.value) > 0 else ""


def counted(trials: Mapping[str, int]) -> str:
    """How many trials ended how: `24 complete, 6 stopped, 2 failed`."""
    return ", ".join(f"{trials[s]} {s}" for s in STATES if trials.get(s)) or "no trials"


def pick_table(pick: Pick) -> RenderableType:
    """A picked point: its numbers, why it, what binds, and what the next best would change."""
    member = pick.member
    lines = [Text.assemble((f"trial {member.trial}", "bold"), f" of {pick.study}: {pick.reason}")]
    lines.append(Text())
    rows = [(n, f"{interval(m)}  {origin(m)}") for n, m in member.measurements.items()]
    sure = f"{verdict(member.membership)}, {percent(member.membership)}"
    rows.append(("on the front", sure))
    if pick.binding:
        rows.append(("bound by", ", ".join(pick.binding)))
    if pick.next_best is not None:
        rows.append(("next best", _next_best(pick, pick.next_best)))
    for number, decisions in pick.others.items():
        rows.append(("other network", f"trial {number}: {_differs(decisions)}"))
    if pick.unknown:
        listed = ", ".join(map(str, pick.unknown))
        rows.append(("not considered", f"trials {listed}: no such number of them is known"))
    rows += [(name, text) for name, text in grouped(member.choices).items()]
    return Group(*lines, pair_table(rows), *_warned(incomparable(pick, member.trial)))


def _differs(decisions: Mapping[str, tuple[Any, Any]]) -> str:
    """How many decisions differ, and the first few of them."""
    first = [f"{n} {cell(a)} -> {cell(b)}" for n, (a, b) in list(decisions.items())[:3]]
    more = f", and {len(decisions) - 3} more" if len(decisions) > 3 else ""
    return ", ".join(first) + more


def pair_table(rows: Sequence[tuple[str, str]]) -> RenderableType:
    """Names with their values, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def listing(
    rows: Sequence[Mapping[str, Any]], empty: str, right: Sequence[str] = ()
) -> RenderableType:
    """Rows with the same keys as a table, the keys as its head; `empty` where there are none.

    Numbers stand at the right, and what else the names in `right` say.
    """
    if not rows:
        return Text(empty)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for place, name in enumerate(names):
        numbers = name in right or all(isinstance(r.get(name), int | float | None) for r in rows)
        table.add_column(name, justify="right" if numbers else "left", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(cell(row.get(name))) for name in names))
    return table


def study_table(study: Mapping[str, Any]) -> RenderableType:
    """A study document for people: what was asked, then each trial in one line."""
    goals = ", ".join(f"{o['goal']} {o['name']}" for o in study["objectives"])
    budget = study["budget"]
    asked = [
        ("space", f"{study['space']}, {study['task']['source']}, on {study['device']}"),
        ("objectives", goals),
        ("constraints", ", ".join(study["constraints"]) or "none"),
        ("strategy", f"{study['strategy']}, promotion {study['promotion']}, seed {study['seed']}"),
        ("budget", f"{budget['trials']} trials of at most {_epochs(budget['epochs'])}"),
        ("trials", counted(study["trials"])),
    ]
    rows = [_trial_row(row) for row in study["rows"]]
    return Group(Text(study["study"], style="bold"), pair_table(asked), Text(),
                 listing(rows, "no trial yet"))  # fmt: skip


def trial_table(trial: Mapping[str, Any]) -> RenderableType:
    """A trial document for people: its numbers, its training, its choices."""
    rows = [("state", trial["state"]), ("proposed by", trial["origin"])]
    for name, data in trial["measurements"].items():
        measurement = Measurement.from_json(data)
        rows.append((name, f"{interval(measurement)}  {origin(measurement)}"))
    if trial.get("gain"):
        rows.append(("against trial 0", told(trial["gain"])))
    rows += [(n, plain(v)) for n, v in trial["costs"].items() if n not in trial["measurements"]]
    held = {n: Measurement.from_json(m) for n, m in trial.get("limits", {}).items()}
    kept = [n for n in held if trial["violations"].get(n, 0.0) <= 0]
    rows += [(n, f"kept with {_held(held[n])}{_perhaps(held[n], n)}") for n in kept]
    rows += [(n, _broken(v, held.get(n))) for n, v in trial["violations"].items() if v > 0]
    for rung in trial["rungs"]:
        mark = ", reused" if rung["reused"] else ""
        name = _epochs(rung["epochs"])
        name += f", repeat {rung['repeat']}" if rung["repeat"] else ""
        rows.append((name, f"{plain(rung['score'])} on {rung['n']} images{mark}"))
    rows += [(n, f"{interval(m)}  {origin(m)}") for n, m in _workloads(trial).items()]
    if trial.get("finished"):
        rows.append(("finished", _finished(trial["finished"])))
    if trial["uncounted_ops"]:
        rows.append(("not counted", ", ".join(trial["uncounted_ops"])))
    if trial["reused"]:
        rows.append(("reused", trial["reused"]))
    if trial["error"]:
        rows.append(("error", trial["error"]))
    rows += list(grouped(trial["choices"]).items())
    rows += [(r["transform"], changes(r)) for r in trial.get("transforms", ())]
    return Group(Text(f"trial {trial['trial']} of {trial['study']}", style="bold"),
                 pair_table(rows))  # fmt: skip


def _broken(excess: float, number: Measurement | None) -> str:
    """How a limit is broken, and by which number where it is known."""
    return f"broken by {percent(excess)}" + ("" if number is None else f", with {_held(number)}")


def _workloads(trial: Mapping[str, Any]) -> dict[str, Measurement]:
    """Latencies under other workloads than the usual one, of the trained file if there is one."""
    found: dict[str, Measurement] = {}
    for name, data in trial.get("timings", {}).items():
        where, _, form = name.rpartition("/")
        if not where.endswith(":b1") and (form == "trained" or where not in found):
            found[where] = Measurement.from_json(data)
    return found


def _finished(done: Mapping[str, Any]) -> str:
    """What `nas train` made of a trial: how long, what from, how good on which images."""
    teacher = f", from {done['teacher']}" if done["teacher"] else ""
    score = f"{plain(done['confirm']['score'])} on {done['confirm']['n']} validation images"
    if done["test"] is not None:
        test = Measurement.from_json(done["test"])
        score = f"{interval(test)} on {test.n} test images"
    return f"{_epochs(done['recipe']['epochs'])} more{teacher}: {score}"


def changes(report: Mapping[str, Any]) -> str:
    """What a transform did, in a few lines: how much it touched, each reason it left layers for.

    >>> print(changes({"touched": ["a: int8", "b: int8"], "skipped": [["c", "wide"]], "notes": []}))
    2 changes; 1 left: wide
    """
    why = Counter(reason for _, reason in report["skipped"])
    left = [f"{count} left: {reason}" for reason, count in why.most_common()]
    lines = ["; ".join([f"{len(report['touched'])} changes", *left]), *report.get("notes", ())]
    return "\n".join(lines)


def origin(measurement: Measurement) -> str:
    """How a number came about: `measured, trained file`; of a timing also why it never settled."""
    settled = "not converged" if _shaken(measurement) else ""
    why = "; ".join(measurement.record.get("unsettled", ()))
    told = ": ".join(filter(None, (settled, why)))
    return ", ".join(filter(None, (measurement.source, measurement.basis, told)))


def _shaken(measurement: Measurement) -> bool:
    return not measurement.record.get("converged", True)


def cell(value: Any) -> str:
    """Any JSON value in one cell."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return word(value)
    if isinstance(value, int | float):
        return plain(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {cell(v)}" for k, v in value.items())
    return ", ".join(cell(v) for v in value)


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _trial_row(row: Mapping[str, Any]) -> dict[str, Any]:
    known = {n: compact(Measurement.from_json(m)) for n, m in row["measurements"].items()}
    error = textwrap.shorten(row["error"] or "", REMARK, placeholder=" …")
    why = error or ", ".join(f"{n} broken" for n, v in row["violations"].items() if v > 0)
    return {
        "trial": row["trial"], "state": row["state"], "epochs": row["epochs"], **known,
        **({"against trial 0": told(row["gain"], names=False)} if "gain" in row else {}),
        "remark": why or ("reused" if row["reused"] else ""),
    }  # fmt: skip


def _titles(front: Front) -> list[str]:
    return ["trial", *(o.name for o in front.objectives), "on the front", "source"]


def _cells(front: Front, member: Member, form: Any) -> list[str]:
    numbers = [member.measurements[o.name] for o in front.objectives]
    sure = f"{verdict(member.membership)} {percent(member.membership)}"
    sources = {m.source for m in numbers}
    source = "predicted" if sources == {"predicted"} else "measured"
    mixed = "partly ~" if len(sources) > 1 else source
    return [str(member.trial), *(form(m) for m in numbers), sure, mixed]


def _widths(front: Front, rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(_titles(front), *rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], style: str = "") -> Text:
    first, *others = (c.ljust(w) for c, w in zip(cells, widths, strict=True))
    texts = [first.strip().rjust(widths[0]), *others]
    return Text("  ".join(texts).rstrip(), style=style)


def _span(widths: Sequence[int]) -> tuple[int, int]:
    """Where the membership stands in a line."""
    start = sum(widths[:-2]) + 2 * (len(widths) - 2)
    return start, start + widths[-2]


def _legend(front: Front) -> list[Text]:
    """Says what the brackets and marks mean, in as many lines as there are marks."""
    lines = [Text()]
    numbers = [m for member in front.members for m in member.measurements.values()]
    if any(m.high > m.low for m in numbers):
        lines.append(Text("[low, high]: where a repeat of the whole step falls with 90 %",
                          style="dim"))  # fmt: skip
    predicted = sorted({m.basis for m in numbers if m.source == "predicted"})
    if predicted:
        lines.append(Text(f"~ predicted, not measured ({', '.join(predicted)})", style="dim"))
    if front.others:
        named = [f"{m.trial} ({percent(m.membership)})" for m in front.others[:OTHERS]]
        more = f" and {len(front.others) - OTHERS} more" if len(front.others) > OTHERS else ""
        lines.append(Text(f"possible too: trial {', '.join(named)}{more}", style="dim"))
    shaken = [str(m.trial) for m in front.members if any(map(_shaken, m.measurements.values()))]
    if shaken:
        why = f"why: nas show {front.study} {shaken[0]}"
        lines.append(Text(f"latency not converged: trial {', '.join(shaken)} ({why})", style="dim"))
    if front.members:
        lines += _warned(incomparable(front, front.members[0].trial))
    return lines if len(lines) > 1 else []


def incomparable(found: Front | Pick, first: int) -> list[str]:
    """Whose numbers may not be compared with the first trial's and why, and the cure."""
    apart = f"cannot be compared with trial {first} and its like: "
    texts = [f"trial {t} {apart}" + "; ".join(reasons) for t, reasons in found.unlike.items()]
    if isinstance(found, Front) and found.elsewhere:
        (number, reasons), *more = found.elsewhere.items()
        others = f" and {len(more)} more" if more else ""
        texts.append(f"off the front, trial {number}{others} {apart}" + "; ".join(reasons))
    if texts:
        again = f"nas retarget {found.study} --device {found.device}"
        texts.append(f"to time all of them alike: {again}")
    return texts


def _warned(texts: Sequence[str]) -> list[Text]:
    return [Text(text, style="red") for text in texts]


def _next_best(pick: Pick, other: Member) -> str:
    changes = []
    for name, change in pick.regret.items():
        unit = other.measurements[name].unit
        sign = "+" if change >= 0 else "-"
        changes.append(f"{name} {sign}{with_unit(plain(abs(change)), unit)}")
    return f"trial {other.trial}: {', '.join(changes)}"
