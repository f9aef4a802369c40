"""A network in a few words: choices with stages written side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Choices = Mapping[str, Any]
_STAGE = re.compile(r"^(?P<before>.*?)\.?(?P<index>\d+)\.(?P<name>[^.]+)$")


def grouped(choices: Choices) -> dict[str, str]:
    """Choices with the values of numbered stages joined: `kernel` -> `7/13/31`.

    A stage in which the decision does not exist shows as `-`. A name that comes twice keeps its
    path.

    >>> grouped({"stages.0.kernel": 7, "stages.1.kernel": 13, "stem.stride": 2, "gate": True})
    {'gate': 'yes', 'kernel': '7/13', 'stride': '2'}
    """
    stages: dict[tuple[str, str], dict[int, Any]] = {}
    single: dict[str, Any] = {}
    for path, value in choices.items():
        found = _STAGE.match(path)
        if found:
            place = stages.setdefault((found["before"], found["name"]), {})
            place[int(found["index"])] = value
        else:
            single[path] = value
    last = {before: 0 for before, _ in stages}
    for (before, _), values in stages.items():
        last[before] = max(last[before], *values)
    rows = {path: word(value) for path, value in single.items()}
    for (before, name), values in stages.items():
        places = [word(values[i]) if i in values else "-" for i in range(last[before] + 1)]
        rows[f"{before}.{name}".lstrip(".")] = "/".join(places)
    return dict(sorted(_shortened(rows).items()))


def groups(names: Iterable[str]) -> dict[str, list[str]]:
    """The names under which `grouped` joins these decisions, each with its decisions in order.

    >>> groups(["stages.0.kernel", "stem.stride", "stages.1.kernel"])
    {'kernel': ['stages.0.kernel', 'stages.1.kernel'], 'stride': ['stem.stride']}
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        match = _STAGE.match(name)
        joined = f"{match['before']}.{match['name']}".lstrip(".") if match else name
        found.setdefault(joined, []).append(name)
    ends = [path.rsplit(".", 1)[-1] for path in found]
    short = {end if ends.count(end) == 1 else path: parts
             for (path, parts), end in zip(found.items(), ends, strict=True)}  # fmt: skip
    return {name: sorted(parts, key=_by_stage) for name, parts in sorted(short.items())}


def _by_stage(name: str) -> int:
    match = _STAGE.match(name)
    return int(match["index"]) if match else 0


def describe(choices: Choices, first: Sequence[str] = ()) -> str:
    """One line about a network, the decisions named in `first` leading.

    >>> describe({"stages.0.kernel": 7, "stages.1.kernel": 13, "width": 16}, first=["width"])
    'width 16  kernel 7/13'
    """
    rows = grouped(choices)
    order = [n for n in first if n in rows] + [n for n in rows if n not in first]
    return "  ".join(f"{name} {rows[name]}" for name in order)


def telling(many: Iterable[Choices]) -> list[str]:
    """Names of the grouped decisions, those that differ most between these networks first.

    >>> telling([{"depth": 1, "width": 16}, {"depth": 1, "width": 32}])
    ['width', 'depth']
    """
    values: dict[str, set[str]] = {}
    for choices in many:
        for name, text in grouped(choices).items():
            values.setdefault(name, set()).add(text)
    return sorted(values, key=lambda name: (-len(values[name]), name))


def word(value: Any) -> str:
    """A value as tables print it.

    >>> word(True), word(0.30000000000000004), word("gelu")
    ('yes', '0.3', 'gelu')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shortened(rows: Mapping[str, str]) -> dict[str, str]:
    """Each path by its last word, where no other path ends in the same one."""
    ends = [path.rsplit(".", 1)[-1] for path in rows]
    return {
        (end if ends.count(end) == 1 else path): text
        for (path, text), end in zip(rows.items(), ends, strict=True)
    }
