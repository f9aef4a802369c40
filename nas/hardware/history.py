"""What a host's earlier sessions say about its noise: how far the anchors move between processes.

One small file of JSON lines for each user, host, device, runtime and protocol. It holds
the anchors' estimates of the last sessions, nothing about candidates (of these, `repeats` does);
losing it costs nothing but the wider, assumed interval until it is learnt again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.hardware.agent.workplace import OLD_S

KEPT = 40
REFERENCE = "reference"  # the name of what the reference kernel took, in rows of its own


@dataclass(frozen=True)
class Lines:
    """A small file of JSON objects, one a line, of which the last so many are kept.

    Args:
        path: of the file, in a folder of this user's own.
        kept: how many.
        fits: whether what a line holds was written here.
    """

    path: Path
    kept: int
    fits: Callable[[Any], bool]

    def rows(self) -> list[dict[str, Any]]:
        """The objects, oldest first; a line that is none is passed by."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        return [row for line in lines[-self.kept :] if self.fits(row := _parsed(line))]

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds one. Two processes that add at once may lose one row, never tear the file."""
        self._tidy()
        rows = [*self.rows(), row]
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix="anchors-", suffix=".new")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(each) + "\n" for each in rows[-self.kept :])
        os.replace(name, self.path)

    def _tidy(self) -> None:
        """Removes what a process that was killed had begun to write."""
        for left in self.path.parent.glob("anchors-*.new"):
            with contextlib.suppress(FileNotFoundError):  # it came to its end just now
                if time.time() - left.stat().st_mtime > OLD_S:
                    left.unlink()


@dataclass(frozen=True)
class AnchorHistory:
    """The anchors of past sessions under equal conditions, named by `key`."""

    folder: Path
    key: str

    @property
    def _lines(self) -> Lines:
        return Lines(self.folder / f"anchors-{self.key}.jsonl", KEPT, _of_anchors)

    def rows(self) -> list[dict[str, float]]:
        """Microseconds by anchor's name, oldest session first."""
        return self._lines.rows()

    def add(self, anchors: Mapping[str, float]) -> None:
        """Adds a session. Raises: OSError where the folder cannot be written to."""
        self._lines.add({name: round(value, 3) for name, value in anchors.items()})

    def usual(self, least: int = 5) -> dict[str, float]:
        """Each name's median over the sessions known, where they are enough to say."""
        seen = by_name(self.rows())
        return {n: statistics.median(v) for n, v in seen.items() if len(v) >= least}

    def squares(self) -> tuple[float, int]:
        """Sum of squared deviations of log time from each anchor's mean, and degrees of freedom."""
        seen = by_name(self.rows())
        seen.pop(REFERENCE, None)  # rows had it too once
        total, freedom = 0.0, 0
        for times in seen.values():
            values = [math.log(ms) for ms in times]
            mean = sum(values) / len(values)
            total += sum((v - mean) ** 2 for v in values)
            freedom += len(values) - 1
        return total, freedom


def by_name(rows: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """What each name was over the rows that have it."""
    seen: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, []).append(value)
    return seen


def positive(value: object) -> bool:
    """Whether it is a number above zero, and finite."""
    return isinstance(value, int | float) and 0 < value < math.inf


def _of_anchors(row: object) -> bool:
    return isinstance(row, dict) and bool(row) and all(map(positive, row.values()))


def _parsed(line: str) -> Any:
    """What a line says; None where it was cut short or written by something else."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
