"""Old databases open and are brought up to date; newer ones are left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from nas.core.errors import NasError
from nas.store import database, migrate, schema
from nas.store.store import Store

STORED_V1 = Path(__file__).parent / "v1.sql"
NEXT = '''"""Version 2: a remark on each study."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("study", sa.Column("remark", sa.String))
'''


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database as the first release wrote it, with a study of three trials."""
    path = tmp_path / "nas.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(STORED_V1.read_text())
    connection.close()
    return path


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program as it will be one migration later."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for script in migrate.SCRIPTS.glob("v*.py"):
        (folder / script.name).write_text(script.read_text())
    (folder / f"v{schema.REVISION + 1}_next.py").write_text(
        NEXT.replace('"2"', f'"{schema.REVISION + 1}"').replace('"1"', f'"{schema.REVISION}"')
    )
    monkeypatch.setattr(database, "REVISION", schema.REVISION + 1)
    monkeypatch.setattr(migrate.migrate, "__defaults__", (folder,))


def version(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        (found,) = connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()
    connection.close()
    return str(found)


def test_the_newest_migration_is_the_one_that_readers_expect() -> None:
    assert migrate.scripts().get_current_head() == str(schema.REVISION)


def test_migrations_make_the_tables_that_the_models_say(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/nas.db")
    with engine.begin() as connection:
        migrate.migrate(connection)
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.Base.metadata) == []
    engine.dispose()


def test_a_stored_database_of_version_1_reads_and_goes_on(old: Path) -> None:
    with Store(f"sqlite:///{old}") as store:
        (study,) = store.studies()
        assert (study.name, study.counts["complete"], study.counts["running"]) == ("toy", 2, 1)
        trials = store.trials("toy")
        assert [t.state for t in trials] == ["complete", "complete", "running"]
        assert trials[0].proxies == {}
        assert trials[0].measurements["latency_ms@cpu:b1/trained"].record == {"p99_ms": 2.25}
        assert [e.kind for e in store.events("toy")] == ["proposed", "told"] * 2 + ["proposed"]
        assert store.front("toy").members[0].membership == 0.75
        assert store.evaluation("k" * 32, "b0", "r", "d", 9, 3).values["final"]["file"] == "f.onnx"
        assert store.timing("b0", "trained", "b1", "h", "ort", "p").measurement.value == 1.5
        store.commit("toy", store.claim("toy"), [], trials)
    assert version(old) == str(schema.REVISION)


@pytest.mark.usefixtures("next_release")
def test_a_writer_brings_an_older_database_up_to_date(old: Path) -> None:
    with Store(f"sqlite:///{old}") as store:
        assert len(store.trials("toy")) == 3
        ask = "SELECT remark FROM study"
        assert store._database.read(lambda c: c.exec_driver_sql(ask).scalar()) is None
    assert version(old) == str(schema.REVISION + 1)


@pytest.mark.usefixtures("next_release")
def test_a_reader_of_an_older_database_says_what_to_do_and_changes_nothing(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(NasError, match=r"is of an older nas[\s\S]*--resume"):
        Store(f"sqlite:///{old}", read_only=True)
    assert old.read_bytes() == before


@pytest.mark.usefixtures("next_release")
def test_a_migration_that_fails_leaves_the_old_database(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = next((tmp_path / "migrations").glob("*_next.py"))
    script.write_text(script.read_text() + "    op.drop_table('no_such_table')\n")
    with pytest.raises(Exception, match="no_such_table"):
        Store(f"sqlite:///{old}")
    monkeypatch.undo()
    assert version(old) == "1"
    with Store(f"sqlite:///{old}") as store:
        assert len(store.trials("toy")) == 3


@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_of_a_newer_release_is_left_alone(old: Path, read_only: bool) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '99'")
    connection.close()
    before = old.read_bytes()
    with pytest.raises(NasError, match=r"is of a newer nas \(tables 99"):
        Store(f"sqlite:///{old}", read_only)
    assert old.read_bytes() == before
