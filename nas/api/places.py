"""Where the database and the files of its studies lie."""

from __future__ import annotations

import os
from pathlib import Path

from nas.core.study import StudySpec
from nas.store.artifacts import Artifacts, opened

DEFAULT_STORAGE = "sqlite:///studies/nas.db"


def storage_url(storage: str | None) -> str:
    """The database to use: what was given, `NAS_STORAGE`, or `studies/nas.db`."""
    return storage or os.environ.get("NAS_STORAGE") or DEFAULT_STORAGE


def artifacts_of(url: str, spec: StudySpec | None = None) -> Artifacts:
    """The artifacts of a study: where it says, else beside its SQLite database or in `studies/`."""
    if spec is not None and spec.artifacts is not None:
        return opened(spec.artifacts)
    prefix = "sqlite:///"
    folder = Path(url.removeprefix(prefix)).parent if url.startswith(prefix) else Path("studies")
    return Artifacts(folder.absolute() / "artifacts")
