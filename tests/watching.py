"""Waiting for a search in another process to have recorded something."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path


def until_recorded(database: Path, trials: int, child: subprocess.Popen[bytes]) -> None:
    """Waits until so many trials are recorded, or the search is over."""
    while child.poll() is None:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
                [[count]] = opened.execute("select count(*) from trial")
        except sqlite3.OperationalError:
            count = 0
        if count >= trials:
            return
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.05)
