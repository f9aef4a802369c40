"""A device belongs to one measurement, or to any number of training steps, never to both.

Two advisory locks (`flock`) per device: the *turnstile*, which everyone takes to come in, and the
*room*, which training steps share and a measurement has alone. A measurement holds the turnstile
while it waits for the room, so no new step can slip in: it waits for the steps under way and no
longer. With one lock a steady stream of shared holders would starve it (the readers-writers problem
of Courtois, Heymans and Parnas, 1971). The system frees the locks of a process that dies.

A device is the host's and not a user's, so all users of a host share the locks: empty files that
anyone may open, in a folder like `/tmp` itself, to which anyone may add and in which nobody removes
what is another's.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
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


SHARED = Path("/tmp/nas-locks")
PATIENCE_S = 1.0  # for whoever made a folder or a file, and has not yet opened it to others


def default_folder() -> Path:
    """Where this host's locks lie: every process of every user of it must agree.

    That is not below `TMPDIR`, which is often a user's or a job's own. `NAS_LOCKS` names another
    folder; it has to be the same for everyone who uses the devices.
    """
    return Path(os.environ.get("NAS_LOCKS") or SHARED)


def shared(folder: Path) -> Path:
    """The folder, made for everyone if it is not there, else taken as it is.

    Raises: Unusable where that cannot be had, or a link stands in its place.
    """
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    except FileExistsError:
        pass
    except OSError as error:
        raise Unusable(f"cannot make the folder {folder}: {error.strerror}", _ANOTHER) from None
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise Unusable(f"{folder} is a link or no folder", f"remove it; or {_ANOTHER}")
    return folder


_ANOTHER = "set NAS_LOCKS to a folder that all who use this device may write to"


@dataclass(frozen=True)
class Lease:
    """The right to use a device of this host: `cpu` or `cuda`, whatever profiles call it.

    Locks are held by the process, so they work between processes and between threads that each
    enter by themselves; a thread that nests `training` in `measuring` waits for itself for ever.

    Raises: Unusable where the locks cannot be made.
    """

    folder: Path
    device: str

    def check(self) -> None:
        """Whether the locks can be had, without taking them."""
        for name in ("turnstile", "room"):
            os.close(self._open(name))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around one training step: waits while a measurement has or wants the device."""
        with self._lock("turnstile", fcntl.LOCK_EX):
            room = self._hold("room", fcntl.LOCK_SH)
        try:
            yield
        finally:
            _free(room)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Around one measurement: waits for the steps under way, then has the device alone."""
        with self._lock("turnstile", fcntl.LOCK_EX), self._lock("room", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _lock(self, name: str, how: int) -> Iterator[None]:
        handle = self._hold(name, how)
        try:
            yield
        finally:
            _free(handle)

    def _hold(self, name: str, how: int) -> int:
        """The lock, held. One whose file was removed meanwhile (who tidies /tmp?) is taken anew."""
        while True:
            handle = self._open(name)
            try:
                fcntl.flock(handle, how)
                if _lies_there(handle, self._path(name)):
                    os.utime(handle)  # what is used is not old
                    return handle
            except BaseException:
                os.close(handle)
                raise
            _free(handle)

    def _path(self, name: str) -> Path:
        safe = re.sub(r"[^\w.-]", "_", self.device)
        return self.folder / f"{safe}.{name}"

    def _open(self, name: str) -> int:
        """The lock file, opened anew: a lock belongs to the opening, not to the file.

        A file that is there is opened without the wish to make it, which a system may refuse for
        another user's file in a folder like /tmp (`fs.protected_regular`).
        """
        shared(self.folder)
        path, until = self._path(name), time.monotonic() + PATIENCE_S
        while True:
            try:
                return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                _make(path)
            except OSError as error:
                if not isinstance(error, PermissionError) or time.monotonic() > until:
                    raise Unusable(
                        f"cannot open the lock {path}: {error.strerror}",
                        f"have it removed by its owner; or {_ANOTHER}",
                    ) from None
                time.sleep(0.01)


def _make(path: Path) -> None:
    """Makes a lock file that every user may open, whatever this one's umask is."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return  # by somebody else, just now
    except OSError as error:
        raise Unusable(f"cannot make the lock {path}: {error.strerror}", _ANOTHER) from None
    try:
        os.fchmod(handle, 0o666)
    finally:
        os.close(handle)


def _free(handle: int) -> None:
    """Gives a lock back, in this process and in those forked meanwhile, such as a loader's.

    They have it open too, so closing it here alone would free nothing.
    """
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def _lies_there(handle: int, path: Path) -> bool:
    """Whether an open file is the one that its path leads to."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False
