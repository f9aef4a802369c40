"""The last commits of a study's writer, kept until the server's disk has them for certain."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable

Change = tuple[Executable, Sequence[Mapping[str, Any]] | Mapping[str, Any] | None]
KEPT_S = 3.0  # PostgreSQL writes what it has told as kept within three times 0.2 s


@dataclass(frozen=True)
class Commit:
    """A transaction as it can be written again: its events follow the study's first `first`."""

    first: int
    events: Sequence[Mapping[str, Any]]
    changes: Sequence[Change]

    @property
    def end(self) -> int:
        """How many events the study has after it."""
        return self.first + len(self.events)


class Tail:
    """What a writer has committed of late; `end` is how many events the study has by now."""

    def __init__(self, end: int) -> None:
        self.end = end
        self._kept: deque[tuple[float, Commit]] = deque()

    def add(self, commit: Commit, lasting: bool) -> None:
        """Takes in a commit; one that is on disk for certain has all earlier ones there with it."""
        self.end = commit.end
        if lasting:
            self._kept.clear()
            return
        now = time.monotonic()  # when the server took it, however long that took
        self._kept.append((now, commit))
        while self._kept and self._kept[0][0] < now - KEPT_S:
            self._kept.popleft()

    def since(self, end: int) -> list[Commit] | None:
        """The commits that a study of so many events has lost; None where they are not all here."""
        lost = [commit for _, commit in self._kept if commit.first >= end]
        return lost if lost and lost[0].first == end else None
