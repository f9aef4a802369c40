"""How far repeated measurements of a file lay apart on this host, against what was stated of them.

What an interval takes for granted of a machine it has not met is too much for one and too little
for another, and the anchors, which are small, do not show which. Files that are measured again do:
a search's finalists, a point that is verified, a network profiled twice. One file of JSON lines
for each user, host, device, runtime and protocol holds values and doubts by the files' digests.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.hardware.history import Lines, positive

KEPT = 400  # measurements
TOLD = 40  # of those that repeat another, the last so many tell
APART_S = 60.0  # right behind each other, measurements share what neighbours do
ASSUMED = 2  # repeats that say what was stated before there are any


@dataclass(frozen=True)
class Repeats:
    """The measurements of past sessions under equal conditions, named by `key`."""

    folder: Path
    key: str

    @property
    def _lines(self) -> Lines:
        return Lines(self.folder / f"anchors-{self.key}.jsonl", KEPT, _of_files)

    def add(self, found: Mapping[str, tuple[float, float]], now: float | None = None) -> None:
        """Adds a measurement: milliseconds and the relative deviation stated, by digest.

        Raises: OSError where the folder cannot be written to.
        """
        at = round(time.time() if now is None else now, 1)
        files = {name: [float(f"{v:.5g}") for v in pair] for name, pair in found.items()}
        if files:
            self._lines.add({"at": at, "files": files})

    def scale(self) -> float:
        """How many of the stated deviations one deviation of repeats was; 1 before there are any.

        Files of one measurement share its luck and count as one repeat.
        """
        squares: list[float] = []
        seen: dict[str, list[tuple[float, float, float]]] = {}
        for row in self._lines.rows():
            told = []
            for name, (value, doubt) in row["files"].items():
                earlier = [e for e in seen.get(name, []) if row["at"] - e[0] >= APART_S]
                if earlier:
                    _, before, its = earlier[-1]
                    told.append(np.log(value / before) ** 2 / (doubt**2 + its**2))
                seen.setdefault(name, []).append((row["at"], value, doubt))
            if told:
                squares.append(float(np.mean(told)))
        last = squares[-TOLD:]
        return float(np.sqrt((ASSUMED + sum(last)) / (ASSUMED + len(last))))


def digest_of(path: Path) -> str:
    """What a file is known by here, whatever its name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _of_files(row: object) -> bool:
    """Whether a row is one of `add`'s."""
    if not isinstance(row, dict) or set(row) != {"at", "files"} or not positive(row["at"]):
        return False
    files = row["files"]
    return isinstance(files, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(positive, pair))
        for pair in files.values()
    )
