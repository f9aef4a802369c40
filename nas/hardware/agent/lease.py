"""A device belongs to one measurement, or to any number of training steps, never to both.

Two advisory locks (`flock`) per device: the *turnstile*, which everyone takes to come in, and the
*room*, which training steps share and a measurement has alone. A measurement holds the turnstile
while it waits for the room, so no new step can slip in: it waits for the steps under way and no
longer. With one lock a steady stream of shared holders would starve it (the readers-writers problem
of Courtois, Heymans and Parnas, 1971). The system frees the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class Unusable(Exception):
    """A folder or file that cannot be used: what is wrong, and what to do about it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint


def private(folder: Path) -> Path:
    """The folder, made if it is not there; nobody else may have made it, or may enter it.

    Raises: Unusable where that cannot be had.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise Unusable(
            f"cannot make the folder {folder}: {error.strerror}",
            "set TMPDIR to a folder that you may write to",
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Unusable(
            f"the folder {folder} is a link or belongs to someone else",
            "remove it, or set TMPDIR to a folder of your own",
        )
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def default_folder() -> Path:
    """Where this user's locks lie: every process of one user on one host must agree on it."""
    return Path(tempfile.gettempdir()) / f"nas-locks-{os.getuid()}"


@dataclass(frozen=True)
class Lease:
    """The right to use a device of this host: `cpu` or `cuda`, whatever profiles call it.

    Locks are held by the process, so they work between processes and between threads that each
    enter by themselves; a thread that nests `training` in `measuring` waits for itself for ever.

    Raises: Unusable where the locks cannot be made.
    """

    folder: Path
    device: str

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around one training step: waits while a measurement has or wants the device."""
        with self._lock("turnstile", fcntl.LOCK_EX):
            room = self._open("room")
            try:
                fcntl.flock(room, fcntl.LOCK_SH)
            except BaseException:
                os.close(room)
                raise
        try:
            yield
        finally:
            os.close(room)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Around one measurement: waits for the steps under way, then has the device alone."""
        with self._lock("turnstile", fcntl.LOCK_EX), self._lock("room", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _lock(self, name: str, how: int) -> Iterator[None]:
        handle = self._open(name)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)

    def _open(self, name: str) -> int:
        """The lock file, opened anew: a lock belongs to the opening, not to the file."""
        safe = re.sub(r"[^\w.-]", "_", self.device)
        path = private(self.folder) / f"{safe}.{name}"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unusable(
                f"cannot open the lock {path}: {error.strerror}",
                f"remove it, or set TMPDIR to a folder of yours (now {tempfile.gettempdir()})",
            ) from None
