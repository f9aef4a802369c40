"""Files that trials leave behind, named by their content: weights and exported networks."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from nas.core.errors import NasError

_NAME = re.compile(r"[0-9a-f]{64}\.(safetensors|onnx|pt2)")


class Artifacts:
    """A folder of content-named files, shared by every study of a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, path: Path) -> str:
        """Moves a finished file in and returns its name; the same content is kept once."""
        with path.open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest() + path.suffix
        self.folder.mkdir(parents=True, exist_ok=True)
        os.replace(path, self.path(name))
        return name

    def path(self, name: str) -> Path:
        """Where the file of that name lies. Raises: NasError for what is no artifact's name."""
        if not _NAME.fullmatch(name):
            raise NasError(f"not an artifact's name: {name!r}", "names come from the database")
        return self.folder / name

    def holds(self, name: str | None) -> bool:
        """Whether the file is there."""
        return name is not None and self.path(name).is_file()

    def scratch(self) -> Path:
        """A folder on the same file system for files under way, private to this process."""
        folder = self.folder / "under-way" / str(os.getpid())
        folder.mkdir(parents=True, exist_ok=True)
        return folder
