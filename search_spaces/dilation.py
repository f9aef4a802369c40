"""Dilation: how far apart the taps of each filter lie, in any convolutional network.

The convolutions are put into four sections, in the order in which they run, and the filters of each
into four groups; each group has a pattern, `ROWSxCOLUMNS`, the distance between its taps. Patterns
cost no parameter and no multiply-add, but a convolution of its own each: what that takes is timed.

`kernel = full` is the network that the statistical search of Inception convolution trains first:
kernels that reach as far as any pattern. Only `--strategy edo` proposes it, then what it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.task import Task, TaskSpec

SECTIONS, GROUPS = range(4), range(4)


def largest(task: Task | TaskSpec) -> int:
    """The largest distance between taps, by the side of the images."""
    side = min(task.input[1:], default=1)
    return 2 if side < 24 else 3 if side < 64 else 4


def decisions(task: TaskSpec) -> list[Decision]:
    """For each section whether it is dilated, then the patterns of its groups, widest first.

    In that order no network has two names.
    """
    reach = range(1, largest(task) + 1)
    patterns: list[Value] = [f"{rows}x{columns}" for rows in reach for columns in reach]
    upto: Mapping[Value, Sequence[Value]] = {p: patterns[: i + 1] for i, p in enumerate(patterns)}
    listed: list[Decision] = [Choice("kernel", ["own", "full"], proposed=["own"])]
    for section in SECTIONS:
        at = f"section.{section}."
        listed.append(Choice(at + "dilated", [False, True], when={"kernel": ["own"]}))
        for group in GROUPS:
            before = f"{at}filters.{group - 1}"
            listed.append(
                Choice(
                    f"{at}filters.{group}",
                    patterns if group else patterns[1:],
                    when={at + "dilated": [True]},
                    within={before: upto} if group else None,
                )
            )
    return listed


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Dilates what the choices say."""
    from nas.transforms.dilate import dilating, growing

    if choices["kernel"] == "full":
        return growing(largest(task))
    return dilating([_patterns(choices, f"section.{section}.") for section in SECTIONS])


def _patterns(choices: Choices, at: str) -> list[tuple[int, int]]:
    """The patterns of a section's groups, narrowest first."""
    if not choices[at + "dilated"]:
        return [(1, 1)] * len(GROUPS)
    return [_pattern(choices[f"{at}filters.{group}"]) for group in reversed(GROUPS)]


def _pattern(value: Any) -> tuple[int, int]:
    rows, columns = str(value).split("x")
    return int(rows), int(columns)


axis = Axis("dilation", decisions, transform)
