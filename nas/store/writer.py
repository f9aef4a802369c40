"""Who writes a study: a process, told apart from a later one that was given the same number."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Writer:
    """A process on a host; `started` is what the system says of its beginning, or None.

    >>> Writer.this().alive
    True
    """

    host: str
    process: int
    started: str | None

    @classmethod
    def this(cls) -> Writer:
        """The process that asks."""
        return cls(socket.gethostname(), os.getpid(), _own_beginning(os.getpid()))

    @property
    def alive(self) -> bool | None:
        """Whether the process still runs; None on another host, where nobody here can know."""
        if self.host != socket.gethostname():
            return None
        found = beginning(self.process)
        return found is not None and found == self.started

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def beginning(process: int) -> str | None:
    """When a local process began, in words that no other process ever shares; None if it is gone.

    Linux counts ticks since the boot, which has a name of its own; elsewhere `ps` gives a date.
    A process that has ended and was not yet collected by its parent is gone.
    """
    if PROC.exists():
        try:
            stat = (PROC / str(process) / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # the command's name, in brackets, may itself hold spaces and brackets
        fields = stat.rpartition(")")[2].split()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    found = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


@cache
def _own_beginning(process: int) -> str | None:
    return beginning(process)
