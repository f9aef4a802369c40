"""Temporary folders that the next process clears away where their own could not.

A process that is killed outright leaves its temporary folders behind. These have names by which
they are known, and belong to their maker as long as it holds a lock (`flock`) on them, which the
system frees with the process: whoever comes next and finds one of this user's that nobody holds
and nobody touched for an hour removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "nas-tmp-"
OLD_S = 3600.0  # between a folder's making and its locking a process may be slow
_NAME = re.compile(PREFIX + r"[a-z]+-[a-z0-9_]{8}")


@contextlib.contextmanager
def workplace(what: str) -> Iterator[Path]:
    """A temporary folder, `nas-tmp-WHAT-...`, removed at the end of the block."""
    _once()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{what}-") as name:
        handle = claim(Path(name))
        try:
            yield Path(name)
        finally:
            if handle is not None:
                os.close(handle)


def lasting(what: str) -> Path:
    """A temporary folder for as long as this process lives; a later one removes it."""
    _once()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{what}-"))
    claim(folder)
    return folder


def claim(folder: Path) -> int | None:
    """Makes a folder this process's until the handle is closed; None where it cannot be told.

    A file system without such locks is one where nothing is ever cleared away.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def reclaim(where: Path, old_s: float = OLD_S) -> list[Path]:
    """Removes what dead processes of this user's left in a folder; returns what that was."""
    found = []
    for entry in os.scandir(where):
        if not _NAME.fullmatch(entry.name):
            continue
        try:
            seen = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # its maker just removed it
        own = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid()
        if own and time.time() - seen.st_mtime >= old_s and _removed(Path(entry.path)):
            found.append(Path(entry.path))
    return found


def _removed(folder: Path) -> bool:
    """Removes a folder that nobody holds."""
    try:
        handle = claim(folder)
    except FileNotFoundError:
        return False  # by somebody else, just now
    if handle is None:
        return False
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot go now is met again
    finally:
        os.close(handle)
    return not folder.exists()


@functools.cache
def _once() -> None:
    """Once in each process is enough."""
    with contextlib.suppress(PermissionError):  # a TMPDIR that may be written to but not listed
        reclaim(Path(tempfile.gettempdir()))
