"""Opens the database behind a URL, and says in a person's words why it cannot be read or written.

Nothing here knows what a study is.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, StatementError

from nas.core.errors import NasError
from nas.store.schema import REVISION, VERSION_TABLE, Base

PATIENCE_S = 30.0  # how long a transaction waits for another one, which takes milliseconds
MAKE_ONE = "make one: nas search --space largekernel --device cpu --data digits"
OTHER = "name another database with --storage sqlite:///PATH"
_KEPT = "what was recorded before is kept;"


class Database:
    """A study database: transactions that read, transactions that write.

    A writer makes the file and its folder, and brings the tables up to date. A reader changes
    nothing, not even the tables of an older release, and reads while another process writes.

    Args:
        url: `sqlite:///PATH` or `postgresql+psycopg://...`.
        read_only: open for reading only.
        make: whether a writer makes a database that is not there.

    Raises: NasError for whatever keeps it from being opened.
    """

    def __init__(self, url: str, read_only: bool = False, make: bool = True) -> None:
        parsed = _parse(url)
        self.read_only = read_only
        self.path = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self.place = str(self.path or parsed.render_as_string(hide_password=True))
        if self.path is not None:
            _prepare(self.path, read_only, make and not read_only)
        self._engine = _engine(parsed, self.path, read_only)
        try:
            self._check() if read_only else self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database, whatever others write meanwhile."""
        with _in_words(self.place), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is kept whole or not at all; others that write wait for it."""
        if self.read_only:
            raise RuntimeError(f"{self.place} was opened for reading only")
        writing = self._engine.execution_options(nas_writes=True)
        with _in_words(self.place), writing.begin() as connection:
            yield connection

    def insert(self, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
        """An insert that can say what happens to a row that is there already."""
        kind = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        return kind(table)

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()

    def _check(self) -> None:
        with self.read() as connection:
            version = _version(connection, self.place)
        if version is None:
            raise NasError(f"no studies in {self.place}", MAKE_ONE)
        if version < REVISION:
            raise NasError(
                f"{self.place} is of an older nas (tables {version}, here {REVISION})",
                "a command that writes brings it up to date: nas search --study NAME --resume",
            )

    def _bring_up_to_date(self) -> None:
        with self.write() as connection:
            version = _version(connection, self.place)
            if version is None or version < REVISION:
                from nas.store.migrate import migrate  # Alembic is slow to import

                migrate(connection)
        if self.path is not None:
            with _in_words(self.place), closing(self._engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA journal_mode=WAL")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise NasError(
            f"not the URL of a database: {url!r}", f"did you mean sqlite:///{url} ?"
        ) from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise NasError(
            f"studies cannot be kept in {backend!r}",
            "type --storage sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
        )
    if backend == "sqlite" and (parsed.database or ":memory:") == ":memory:":
        raise NasError(f"{url!r} names no file", "type --storage sqlite:///studies/nas.db")
    return parsed


def _prepare(path: Path, read_only: bool, make: bool) -> None:
    """What must be so before SQLite is asked: the file for a reader, the folder for a writer."""
    if path.is_dir():
        raise NasError(f"{path} is a folder, not a database", OTHER)
    if not make and not path.exists():
        raise NasError(f"no study database at {path}", f"{MAKE_ONE}, or {OTHER}")
    if read_only:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NasError(
            f"cannot make the folder {path.parent}: {error.strerror}",
            "name a database in a folder of yours with --storage sqlite:///PATH",
        ) from error
    # SQLite itself would say so only when the first decision is written
    if path.exists() and not os.access(path, os.W_OK, effective_ids=True):
        raise NasError(
            f"{path} cannot be written: it is read-only for you",
            f"give yourself the right to write the file and its folder, or {OTHER}",
        )


def _engine(url: URL, path: Path | None, read_only: bool) -> Engine:
    """An engine whose every connection and transaction begins as this module promises."""
    if path is not None:
        query = {**url.query, "mode": "ro" if read_only else "rwc", "uri": "true"}
        if read_only and _sealed(path):
            query["immutable"] = "1"
        url = URL.create(url.drivername, database="file:" + quote(str(path)), query=query)
    try:
        engine = create_engine(
            url,
            json_serializer=json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode,
            connect_args={"timeout": PATIENCE_S} if path is not None else {},
        )
    except ModuleNotFoundError as error:
        raise NasError(
            f"{url.drivername} needs the package {error.name!r}",
            f"pip install {error.name}, or type --storage sqlite:///studies/nas.db",
        ) from None
    if path is not None:
        event.listen(engine, "connect", _connect)
        event.listen(engine, "begin", _begin)
    return engine


def _sealed(path: Path) -> bool:
    """Whether nobody can be writing: an archive on a read-only medium, which cannot be locked."""
    log = path.with_name(path.name + "-wal")
    return not os.access(path.parent, os.W_OK, effective_ids=True) and not log.exists()


def _connect(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, DDL included
    connection.execute("PRAGMA foreign_keys=ON")
    # With a write-ahead log this survives kill -9; a power cut may cost the last transactions
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    # A writer takes its place at once: a transaction that read first could not wait for another
    writes = connection.get_execution_options().get("nas_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _version(connection: Connection, place: str) -> int | None:
    """The newest migration the database has seen; None where it is empty."""
    tables = inspect(connection)
    if not tables.has_table(VERSION_TABLE):
        others = tables.get_table_names()
        if others:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise NasError(
                f"{place} is not a study database: it holds the tables {shown}",
                f"it was left as it is; {OTHER}",
            )
        return None
    version = int(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one())
    if version > REVISION:
        raise NasError(
            f"{place} is of a newer nas (tables {version}, here {REVISION})",
            f"use the release of nas that wrote it, or {OTHER}",
        )
    return version


_REASONS: tuple[tuple[str, str, str], ...] = (
    ("SQLITE_NOTADB", "{place} is not a database", f"it was left as it is; {OTHER}"),
    (
        "SQLITE_CORRUPT",
        "{place} is damaged: {reason}",
        "sqlite3 {place} .recover | sqlite3 FILE saves what can be read; then --storage "
        "sqlite:///FILE",
    ),
    (
        "SQLITE_FULL",
        "no room to write {place}: {reason}",
        f"{_KEPT} free some space, then go on with nas search --study NAME --resume",
    ),
    (
        "SQLITE_READONLY",
        "{place} cannot be written: {reason}",
        f"{_KEPT} give yourself the right to write the file and its folder, or {OTHER}",
    ),
    (
        "SQLITE_CANTOPEN",
        "{place} cannot be opened: {reason}",
        f"look at the rights of the file and its folder, or {OTHER}",
    ),
    (
        "SQLITE_BUSY",
        f"{{place}} was kept locked by another process for {PATIENCE_S:.0f} seconds",
        f"{_KEPT} end the process that holds it, then type the command again",
    ),
    (
        "SQLITE_IOERR",
        "{place} cannot be read or written: {reason}",
        f"{_KEPT} look after the disk (is it full or gone?), then type the command again",
    ),
)  # fmt: skip


@contextmanager
def _in_words(place: str) -> Iterator[None]:
    """Turns what goes wrong outside this program into a NasError; what is our bug passes."""
    try:
        yield
    except (StatementError, sqlite3.Error, json.JSONDecodeError) as error:
        cause = error.orig if isinstance(error, StatementError) and error.orig else error
        if isinstance(error, StatementError) and isinstance(cause, ValueError | TypeError):
            raise cause from None  # a value that JSON does not know
        told = _explain(cause, place)
        if told is None:
            raise
        raise told from error


def _explain(cause: BaseException, place: str) -> NasError | None:
    name = getattr(cause, "sqlite_errorname", "")
    if isinstance(cause, json.JSONDecodeError) or str(cause).startswith("Could not decode"):
        name = "SQLITE_CORRUPT"
    for start, problem, hint in _REASONS:
        if name.startswith(start):
            return NasError(problem.format(place=place, reason=cause), hint.format(place=place))
    if type(cause).__name__ == "OperationalError" and not isinstance(cause, sqlite3.Error):
        reason = str(cause).strip().splitlines()[0]
        return NasError(f"{place} does not answer: {reason}", f"is it running? {OTHER}")
    return None
