"""How far a long command has come: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class Steps:
    """Shows steps of a known number, by what they are of; a context.

    Args:
        console: where to. quiet: says nothing.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), console=console, transient=True,
            disable=quiet or not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}

    def on(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` are over."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what)
        self._bar.update(self._tasks[what], completed=done, total=total)
        if not self._quiet and not self._console.is_terminal and self._telling(what, done, total):
            self._console.print(f"{what}: {done}/{total}", soft_wrap=True)

    def _telling(self, what: str, done: int, total: int) -> bool:
        """Whether a line is due: at both ends, and at every fifth of the way."""
        fifth = 5 * done // max(total, 1)
        due = self._told.get(what) != fifth and total > 0
        self._told[what] = fifth
        return due

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._bar.stop()
