"""Opens the database behind a URL, and says in a person's words why it cannot be read or written.

Nothing here knows what a study is.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from nas.core.errors import NasError
from nas.store.address import parsed
from nas.store.schema import REVISION, VERSION_TABLE, Base
from nas.store.secrets import masked
from nas.store.trouble import OTHER, PATIENCE_S, away, in_words

OUTAGE_S = 180.0  # how long a server that answered before is waited for
INSIDE_S = 10.0  # how long a writer whose line is dead keeps others waiting, less than `PATIENCE_S`
PAUSES_S = (0.1, 2.0)  # between two attempts, at first and at most
MAKE_ONE = "make one: nas search --space largekernel --device cpu --data digits"
_PAUSE_S = 0.02  # between two attempts to switch a file to its write-ahead log
_MIGRATING = 0x6E6173  # names the lock under which one of several openers brings tables up to date
Found = TypeVar("Found")


class Database:
    """A study database: transactions that read, transactions that write.

    A writer makes the file and its folder, and brings the tables up to date. A reader changes
    nothing, not even the tables of an older release, and reads while another process writes.

    A server that has answered once and is then gone (restarted, or cut off) is waited for; what a
    transaction does must therefore be done by the function that it is given, and nowhere else.

    Args:
        url: `sqlite:///PATH` or `postgresql+psycopg://...`; a password in it is never printed.
        read_only: open for reading only.
        make: whether a writer makes a database that is not there.

    Raises: NasError for whatever keeps it from being opened.
    """

    def __init__(self, url: str, read_only: bool = False, make: bool = True) -> None:
        address = parsed(url)
        self.read_only = read_only
        self.path = Path(address.database or "") if address.get_backend_name() == "sqlite" else None
        self.place = str(self.path or masked(url))
        if self.path is not None:
            _prepare(self.path, read_only, make and not read_only)
        self._engine = _engine(address, self.path, read_only)
        self._outage_s = 0.0  # who cannot be reached at the beginning is not waited for
        try:
            self._check() if read_only else self._bring_up_to_date()
            self._outage_s = OUTAGE_S if self.path is None else 0.0
        except BaseException:
            self.close()
            raise

    def read(self, work: Callable[[Connection], Found]) -> Found:
        """What `work` finds in one state of the database, whatever others write meanwhile."""

        # A server's own transaction is what a reader needs; a writer reads one row at a time
        alone = self.path is None and not self.read_only
        given = {"isolation_level": "AUTOCOMMIT"} if alone else {}
        engine = self._engine.execution_options(**given)

        def attempt() -> Found:
            with engine.connect() as connection:
                return work(connection)

        return self._patiently(attempt)

    def write(
        self, work: Callable[[Connection], Found], again: bool = False, lasting: bool = True
    ) -> Found:
        """What `work` returns; what it writes is kept whole or not at all. Other writers wait.

        Args:
            work: writes.
            again: it may be called a second time where nobody knows whether the first was kept.
            lasting: return only once a power cut of the server would keep it. Otherwise a second
                later: for those who can write it again (`Store.commit`).
        """
        if self.read_only:
            raise RuntimeError(f"{self.place} was opened for reading only")
        writing = self._engine.execution_options(nas_writes=True)

        def attempt() -> Found:
            with writing.begin() as connection:
                if lasting and self.path is None:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
                return work(connection)

        return self._patiently(attempt) if again else self._patiently(self._reached(attempt))

    def _patiently(self, attempt: Callable[[], Found]) -> Found:
        """Attempts until it succeeds, as long as all that fails is that the server is away."""
        began, (pause, most) = time.monotonic(), PAUSES_S
        patience = self._outage_s
        with in_words(self.place):
            while True:
                try:
                    return attempt()
                except DBAPIError as error:
                    if not away(error) or patience <= 0:
                        raise
                    # once more even then: this process may itself have stood still for that long
                    patience = self._outage_s - (time.monotonic() - began)
                time.sleep(pause)
                pause = min(2 * pause, most)

    def _reached(self, attempt: Callable[[], Found]) -> Callable[[], Found]:
        """The attempt, made once and not again; the server is waited for before it."""
        tried: list[bool] = []

        def once() -> Found:
            if tried:
                raise NasError(
                    f"{self.place} went away in the middle of a change",
                    "look whether it was made, and type the command again",
                )
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            tried.append(True)
            return attempt()

        return once

    def insert(self, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
        """An insert that can say what happens to a row that is there already."""
        kind = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        return kind(table)

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()

    def _check(self) -> None:
        version = self.read(lambda connection: _version(connection, self.place))
        if version is None:
            raise NasError(f"no studies in {self.place}", MAKE_ONE)
        if version < REVISION:
            raise NasError(
                f"{self.place} is of an older nas (tables {version}, here {REVISION})",
                "a command that writes brings it up to date: nas search --study NAME --resume",
            )

    def _bring_up_to_date(self) -> None:
        self.write(self._migrated)
        if self.path is not None:
            with in_words(self.place), closing(self._engine.raw_connection()) as raw:
                _write_ahead(raw.cursor())

    def _migrated(self, connection: Connection) -> None:
        if self.path is None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
        version = _version(connection, self.place)
        if version is None or version < REVISION:
            from nas.store.migrate import migrate  # Alembic is slow to import

            migrate(connection)


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
            json_deserializer=_decoded,
            connect_args={"timeout": PATIENCE_S} if path is not None else dict(_SERVER),
        )
    except ModuleNotFoundError as error:
        raise NasError(
            f"{url.drivername} needs the package {error.name!r}",
            "pip install 'psycopg[binary]', or type --storage sqlite:///studies/nas.db",
        ) from None
    if path is not None:
        event.listen(engine, "connect", _connect)
        event.listen(engine, "begin", _begin)
    else:
        event.listen(engine, "connect", _connect_server)
        if read_only:
            event.listen(engine, "begin", _begin_read_only)
        else:
            event.listen(engine, "connect", _connect_writer)
    return engine


_JSON = json.JSONDecoder()


def _decoded(text: str | bytes) -> Any:
    # a front reads thousands of trials: half of what they hold is empty, and `json.loads` takes as
    # long to look for spaces as to read the rest
    if text in ("{}", "[]"):
        return {} if text == "{}" else []
    if isinstance(text, str) and not text[:1].isspace():
        found, end = _JSON.raw_decode(text)
        if end == len(text):
            return found
    return json.loads(text)


# A connection that a network swallowed is given up after half a minute, not after two hours
_SERVER = {
    "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4,
    "tcp_user_timeout": 30_000, "application_name": "nas",
}  # fmt: skip


def _connect_server(connection: Any, record: Any) -> None:
    # The disk is waited for only where `Database.write` says so: see `Store.commit`
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {1000 * int(PATIENCE_S)}")
        cursor.execute("SET synchronous_commit = off")
    connection.commit()


def _connect_writer(connection: Any, record: Any) -> None:
    # The server would hold for two hours what a machine had locked when it lost its network. A
    # reader locks nothing, and may take as long as it likes with what it has read
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {int(1000 * INSIDE_S)}")
    connection.commit()


def _begin_read_only(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _sealed(path: Path) -> bool:
    """Whether nobody can be writing: an archive on a read-only medium, which cannot be locked."""
    log = path.with_name(path.name + "-wal")
    return not os.access(path.parent, os.W_OK, effective_ids=True) and not log.exists()


def _connect(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, DDL included
    connection.execute("PRAGMA foreign_keys=ON")
    # With a write-ahead log this survives kill -9; a power cut may cost the last transactions
    connection.execute("PRAGMA synchronous=NORMAL")
    # Beside millions of trials a decision touches pages all over the file: they are put back into
    # it 16 MiB of log at a time, not four. A cache as large would gain no more
    connection.execute("PRAGMA wal_autocheckpoint=4000")


def _write_ahead(cursor: Any) -> None:
    """Readers go on while one writes, from now on. Who else has the file open is waited for here:
    SQLite itself gives up at once where two openers switch together."""
    began = time.monotonic()
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - began
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or waited >= PATIENCE_S:
                raise
        time.sleep(_PAUSE_S)


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
