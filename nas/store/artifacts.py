"""Files that trials leave behind, named by their content: weights and exported networks."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.core.errors import NasError
from nas.hardware.lease import private
from nas.store.secrets import masked

_KEYS = re.compile(r"[?&;][^=&/]*(?:pass|secret|token|key|sig|credential)[^=&/]*=", re.IGNORECASE)
NAME = re.compile(r"[0-9a-f]{64}\.(?:safetensors|onnx|pt2)")
_OWN = uuid.uuid4().hex[:12]  # with the number of the process no other has the same


class Artifacts:
    """A folder of content-named files, shared by every study of a database.

    What is read is checked against its name, so that neither a failing disk nor anybody who may
    write there can pass something else off as what was recorded; what is no longer what its name
    says is set aside, as `NAME.damaged`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: dict[str, tuple[int, ...]] = {}  # files that were checked, as they were then

    @property
    def place(self) -> str:
        """What `opened` takes, on this host and on any that shares the folder."""
        return str(self.folder)

    def prepare(self) -> None:
        """Makes the folder where it is not there. Raises: NasError where none can be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NasError(
                f"no files can be kept at {self.folder}: {error.strerror}",
                "name a folder of yours, or a URL such as s3://bucket/nas: --artifacts PATH|URL",
            ) from error

    def put(self, path: Path) -> str:
        """Moves a finished file in and returns its name; the same content is kept once."""
        name = _digest(path) + path.suffix
        self.folder.mkdir(parents=True, exist_ok=True)
        os.replace(path, self._place(name))
        return name

    def path(self, name: str) -> Path:
        """Where the file of that name lies, or would.

        Raises: NasError for what is no artifact's name, or no longer what its name says.
        """
        here = self._place(name)
        if here.is_file():
            self._check(here, name)
        return here

    def holds(self, name: str | None) -> bool:
        """Whether the file is there."""
        return name is not None and self._place(name).is_file()

    def damaged(self, name: str | None) -> bool:
        """Whether the file was set aside, as what is no longer what its name says."""
        return name is not None and self._aside(name).is_file()

    def _place(self, name: str) -> Path:
        return self.folder / _checked(name)

    def _aside(self, name: str) -> Path:
        return self.folder / f"{_checked(name)}.damaged"

    def _check(self, here: Path, name: str) -> None:
        state = here.stat()
        seen = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if self._sound.get(name) != seen:
            if _digest(here) + here.suffix != name:
                with suppress(OSError):  # it may be another user's, and then stays where it is
                    os.replace(here, self._aside(name))
                raise _changed(here)
            self._sound[name] = seen

    def sound(self, name: str | None) -> bool:
        """Whether the file is there, and still what its name says."""
        try:
            return self.holds(name) and self.path(name or "").is_file()
        except NasError:
            return False

    def scratch(self) -> Path:
        """A folder on the same file system for files under way, private to this process.

        Hosts may share the place, and number their processes alike.
        """
        folder = self.folder / "under-way" / f"{_host()}-{os.getpid()}-{_OWN}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Stored(Artifacts):
    """The same in an object store or wherever else fsspec reaches; a folder here is its cache.

    Credentials are the environment's (`fsspec` and its packages read them there), never the URL's.

    Args:
        url: such as `s3://bucket/nas`. cache: a folder of this user's alone.

    Raises: NasError for a URL that nothing here can open, or that holds a password or a key.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self._url = _without_secrets(url).rstrip("/")
        name = hashlib.sha256(self._url.encode()).hexdigest()[:16]
        own = Path(tempfile.gettempdir()) / f"nas-artifacts-{os.getuid()}"
        super().__init__(cache or private(own) / name)
        self._files, self._root = _reached(self._url)

    @property
    def place(self) -> str:
        """The URL."""
        return self._url

    def put(self, path: Path) -> str:
        """Keeps a copy here, and brings another one to the store under its final name at once."""
        name = super().put(path)
        if not self._files.exists(f"{self._root}/{name}"):
            coming = f"{self._root}/under-way-{uuid.uuid4().hex}"
            self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(self._place(name)), coming)
            self._files.mv(coming, f"{self._root}/{name}")
        return name

    def path(self, name: str) -> Path:
        """Where a copy of the file lies here, fetched where it was not.

        Raises: NasError for what is no artifact's name, or no longer what its name says.
        """
        here = self._place(name)
        with suppress(NasError):  # a damaged copy here is no loss
            super().path(name)
        if not here.is_file() and self._files.exists(f"{self._root}/{name}"):
            coming = self.scratch() / name
            self._files.get_file(f"{self._root}/{name}", str(coming))
            if _digest(coming) + coming.suffix != name:
                coming.unlink()
                raise _changed(f"{self._url}/{name}")
            os.replace(coming, here)
        return super().path(name)

    def holds(self, name: str | None) -> bool:
        """Whether the file is here or there."""
        if name is None:
            return False
        there = f"{self._root}/{_checked(name)}"
        return self._place(name).is_file() or bool(self._files.exists(there))


def opened(place: str) -> Artifacts:
    """The artifacts of a folder, or of a URL that fsspec reaches.

    Raises: NasError where it is neither, or a URL that holds a password or a key.

    >>> opened("studies/artifacts").place
    'studies/artifacts'
    """
    scheme, slash, rest = _without_secrets(place).partition(":/")
    if slash and len(scheme) > 1 and scheme.isalnum() and not rest.startswith("/"):
        path = f"/{rest}" if scheme == "file" else rest
        raise NasError(f"artifacts cannot be at {place!r}", f"did you mean {scheme}://{path} ?")
    return Stored(place) if "://" in place else Artifacts(Path(place))


def abandoned(scratch: str) -> bool:
    """Whether a scratch folder of that name is of a process of this host that is gone.

    Earlier ones are named by the number of their process alone.
    """
    host, _, rest = scratch.rpartition("-")[0].rpartition("-")
    number = rest if host == _host() else scratch
    if not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass  # another user's, or no number of a process
    return False


def _host() -> str:
    """Where numbers of processes mean the same: this host, and of it this container."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{platform.node()}-{space}"


def _reached(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it."""
    fsspec = importlib.import_module("fsspec")
    try:
        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise NasError(
            f"{url} needs a package that is not installed: {error}",
            "install it on every node, or name a folder that all of them share",
        ) from None
    except (ValueError, OSError) as error:
        raise NasError(
            f"cannot keep artifacts at {url}: {error}", "name a folder, or a URL such as s3://..."
        ) from None
    return files, root.rstrip("/")


def _without_secrets(url: str) -> str:
    """A URL, or several in a chain. Raises: NasError where one holds a password or a key."""
    loose = re.sub(r":/+", "://", url)
    if "://" in loose and (masked(loose) != loose or _KEYS.search(loose)):
        raise NasError(
            "the address of the artifacts holds a password or a key, which would be recorded",
            "leave it out, and give it by the environment, as the store's own tools take it",
        )
    return url


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise NasError(f"not an artifact's name: {name!r}", "names come from the database")
    return name


def _changed(where: Path | str) -> NasError:
    return NasError(
        f"{where} is not what was recorded under that name",
        "bring it back from a copy; without one, search anew: nas search ... --study ANOTHER",
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
