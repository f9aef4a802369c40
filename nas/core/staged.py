"""Networks in stages: their images, their choices by stage, and their choices scaled.

What the spaces of `search_spaces/` share. A stage's decisions are named `stages.2.kernel`.
"""

from __future__ import annotations

from typing import Any

from nas.core.architecture import Choices, Value
from nas.core.errors import NasError
from nas.core.scaling import Scaling
from nas.core.task import Task, TaskSpec

LEAST = 8


def image_side(task: Task | TaskSpec, space: str) -> int:
    """The shorter side of a task's images. Raises: NasError for what are none of 8 pixels."""
    if len(task.input) != 3 or min(task.input[1:]) < LEAST:
        raise NasError(
            f"space {space!r} needs images (C, H, W) of {LEAST} pixels or more, got {task.input}",
            "choose a task with larger images, or resize them",
        )
    return min(task.input[1:])


def square_side(task: Task | TaskSpec, space: str, multiple: int) -> int:
    """The side of a task's square images. Raises: NasError where it is no such multiple."""
    if len(task.input) != 3 or task.input[1] != task.input[2] or task.input[1] % multiple:
        raise NasError(
            f"space {space!r} needs square images (C, S, S), S a multiple of {multiple}, "
            f"got {task.input}",
            "choose a task with such images, or resize them",
        )
    return task.input[1]


def staged(
    choices: Choices, count: int, start: str = ""
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is chosen around the stages, and what of each, among the names that begin with `start`.

    >>> staged({"patch": 4, "stages": 2, "stages.0.width": 8, "stages.1.width": 16}, 2)
    ({'patch': 4}, [{'width': 8}, {'width': 16}])
    """
    around: dict[str, Any] = {}
    stages: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, value in choices.items():
        if not name.startswith(start):
            continue
        own = name.removeprefix(start)
        if own.startswith("stages."):
            _, i, field = own.split(".")
            stages[int(i)][field] = value
        elif own != "stages":
            around[own] = value
    return around, stages


def scaled(
    choices: Choices, rule: Scaling, widths: tuple[str, ...] = (".width",), multiple: int = 1
) -> dict[str, Value]:
    """The choices with every depth, and every width other than 0, as the rule has them.

    Args:
        widths: how the names of widths end.
        multiple: of every width, beside the rule's own.
    """
    found = dict(choices)
    for name, value in choices.items():
        if name.endswith(widths) and value:
            found[name] = rule.wider(int(value), multiple)
        elif name.endswith(".depth"):
            found[name] = rule.deeper(int(value))
    return found
