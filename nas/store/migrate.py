"""Brings a study database up to date: the numbered files of `migrations/`, in one transaction."""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from nas.store.schema import VERSION_TABLE

SCRIPTS = Path(__file__).parent / "migrations"


def scripts(folder: Path = SCRIPTS) -> ScriptDirectory:
    """The migrations of a folder, as Alembic sees them."""
    return ScriptDirectory(folder, version_locations=[folder])


def migrate(connection: Connection, folder: Path = SCRIPTS) -> None:
    """Runs every migration that this database has not seen, inside the caller's transaction."""
    directory = scripts(folder)
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    current = context.get_current_revision() or "base"
    with Operations.context(context):
        for step in reversed(list(directory.iterate_revisions("heads", current))):
            step.module.upgrade()
            context.stamp(directory, step.revision)
