"""What goes wrong outside this program when a database is used, in a person's words."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, StatementError

from nas.core.errors import NasError

PATIENCE_S = 30.0  # how long a transaction waits for another one, which takes milliseconds
OTHER = "name another database with --storage sqlite:///PATH"
_KEPT = "what was recorded before is kept;"
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


# SQLSTATE of PostgreSQL -> what is wrong and what to do
_STATES: tuple[tuple[str, str, str], ...] = (
    (
        "42501",
        "your role may not do this in {place}: {reason}",
        "ask for the rights of a role that searches, or one that reads: see nas/store/roles.sql",
    ),
    (
        "53100",
        "no room to write {place}: {reason}",
        f"{_KEPT} free some space there, then go on with nas search --study NAME --resume",
    ),
    (
        "55P03",
        f"{{place}} was kept locked by another process for {PATIENCE_S:.0f} seconds",
        f"{_KEPT} end the process that holds it, then type the command again",
    ),
    (
        "25006",
        "{place} can only be read: {reason}",
        f"{_KEPT} name the server that takes writes, or wait until this one does",
    ),
)
# What passes by itself: connections broken or refused, a server that starts, ends or is full, a
# transaction that stood still for too long or that gave way to another one
_PASSING = ("08", "57P0", "53300", "25P03", "40P01", "40001")
_LOST = {"OperationalError", "InterfaceError", "ConnectionTimeout"}


def away(error: DBAPIError) -> bool:
    """Whether a server was not there, as opposed to having refused what it was asked."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return type(error.orig).__name__ in _LOST
    return str(state).startswith(_PASSING)


@contextmanager
def in_words(place: str) -> Iterator[None]:
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
    state = str(getattr(cause, "sqlstate", None) or "")
    for known, problem, hint in _STATES:
        if state == known:
            reason = str(cause).strip().splitlines()[0]
            return NasError(problem.format(place=place, reason=reason), hint)
    if "invalid connection option" in str(cause):
        return NasError(f"{place}: {cause}", "leave it out of what follows the ? of --storage")
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    if kinds & _LOST and not isinstance(cause, sqlite3.Error):
        reason = str(cause).strip().splitlines()[0]
        return NasError(f"{place} does not answer: {reason}", f"is it running? {OTHER}")
    return None
