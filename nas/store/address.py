"""The address of a study database: taken apart, and as it may be written down."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas.core.errors import NasError
from nas.store.secrets import masked


def parsed(url: str) -> URL:
    """An address taken apart. Raises: NasError for what is no address of a study database."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        hint = f"did you mean sqlite:///{url} ?"
        if "//" in url or "@" in url:
            hint = "type --storage sqlite:///PATH or postgresql+psycopg://USER@HOST:PORT/NAME"
        raise NasError(f"not the URL of a database: {masked(url)!r}", hint) from None
    backend = found.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise NasError(
            f"studies cannot be kept in {backend!r}",
            "type --storage sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
        )
    if backend == "sqlite" and (found.database or ":memory:") == ":memory:":
        raise NasError(f"{url!r} names no file", "type --storage sqlite:///studies/nas.db")
    if "@" in (found.host or ""):
        raise NasError(
            f"{masked(url)} has more than one @", "write the one of a password as %40, a / as %2F"
        )
    return found


def unlisted(url: str) -> None:
    """Refuses an address that stands in this process's command line with its password.

    Ray passes that line to the whole cluster, as the name of a job. Raises: NasError for it, or for
    what is no address of a study database.
    """
    found = parsed(url)
    told = {name.lower() for name in found.query}
    secret = found.password or told & {"password", "sslpassword"}
    if secret and any(url in word for word in sys.orig_argv):
        raise NasError(
            f"--storage {masked(url)}: Ray lists a typed password to everybody on the cluster",
            "put it into ~/.pgpass or PGPASSWORD, or the whole address into NAS_STORAGE",
        )


def exists(url: str) -> bool:
    """Whether something is there behind an address: a server, or a file that is not empty.

    Raises: NasError for what is no address of a study database.
    """
    found = parsed(url)
    path = Path(found.database or "")
    return found.get_backend_name() != "sqlite" or (path.exists() and path.stat().st_size > 0)
