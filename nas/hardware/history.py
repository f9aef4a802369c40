"""What a host's earlier sessions say about its noise: how far the anchors move between processes.

One small file of JSON lines for each user, host, device, runtime and protocol. It holds
the anchors' estimates of the last sessions, nothing about candidates; losing it costs nothing but
the wider, assumed interval until it is learnt again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.hardware.agent.workplace import OLD_S

KEPT = 40
REFERENCE = "reference"  # the name of what the reference kernel took, in rows of its own


@dataclass(frozen=True)
class AnchorHistory:
    """The anchors of past sessions under equal conditions, named by `key`."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"anchors-{self.key}.jsonl"

    def rows(self) -> list[dict[str, float]]:
        """Microseconds by anchor's name, oldest session first; a line that is none is passed by."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        return [row for row in map(_row, lines[-KEPT:]) if row]

    def add(self, anchors: Mapping[str, float]) -> None:
        """Adds a session. Two processes that add at once may lose one row, never tear the file."""
        self._tidy()
        rows = [*self.rows(), {name: round(value, 3) for name, value in anchors.items()}]
        handle, name = tempfile.mkstemp(dir=self.folder, prefix="anchors-", suffix=".new")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows[-KEPT:])
        os.replace(name, self.path)

    def _tidy(self) -> None:
        """Removes what a process that was killed had begun to write."""
        for left in self.folder.glob("anchors-*.new"):
            with contextlib.suppress(FileNotFoundError):  # it came to its end just now
                if time.time() - left.stat().st_mtime > OLD_S:
                    left.unlink()

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


def _row(line: str) -> dict[str, float] | None:
    """One session's anchors; None for a line that was cut short or written by something else."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(row, dict) or not row:
        return None
    fine = all(isinstance(v, int | float) and 0 < v < math.inf for v in row.values())
    return row if fine else None
