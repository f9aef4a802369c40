"""What a person is told when a database cannot be opened, read or written; the faults are real."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import toy_space, toy_spec
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

import nas
from nas.core.errors import NasError
from nas.core.trial import Event, Trial
from nas.store.database import Database, _decoded, _write_ahead
from nas.store.store import Store

NOBODY = 65534


def filled(path: Path, trials: int = 3) -> str:
    """The URL of a database with a study of some trials."""
    url = f"sqlite:///{path}"
    with Store(url) as store:
        store.create(toy_spec())
        epoch = store.claim("toy")
        add(store, epoch, range(trials))
        store.release("toy", epoch)
    return url


def add(store: Store, epoch: int, numbers: range, ballast: str = "") -> None:
    point = toy_space().architecture({"kernel": 5, "depth": 2, "width": 16})
    for number in numbers:
        event = Event("proposed", number, {"notes": {"ballast": ballast}})
        store.commit("toy", epoch, [event], [Trial(number, point)])


def two_lines(error: pytest.ExceptionInfo[NasError]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 2 and "sqlite3.Operational" not in text
    return text


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which rights count: root, who passes every lock, becomes nobody meanwhile."""
    made, root = Path(tempfile.mkdtemp()), os.geteuid() == 0
    if root:
        os.chown(made, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield made
    finally:
        made.chmod(0o755)
        if root:
            os.seteuid(0)
        shutil.rmtree(made)


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("studies/nas.db", "did you mean sqlite:///studies/nas.db"),
            ("mysql://me@host/nas", "studies cannot be kept in 'mysql'"),
            ("sqlite://", "names no file"),
            ("sqlite:///:memory:", "names no file"),
        ],
    )
    def test_unusable(self, url: str, told: str) -> None:
        with pytest.raises(NasError) as error:
            Database(url)
        assert told in two_lines(error)

    def test_a_missing_driver_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(NasError) as error:
            Database("postgresql+psycopg://me:secret@host/nas")
        assert "pip install 'psycopg[binary]'" in two_lines(error) and "secret" not in str(
            error.value
        )

    def test_any_file_name_that_a_url_can_write(self, tmp_path: Path) -> None:
        filled(tmp_path / "new folder" / "100 % mine?#&.db".replace("?", ""))
        assert (tmp_path / "new folder" / "100 % mine#&.db").exists()


class TestReader:
    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(NasError) as error:
            Database(f"sqlite:///{tmp_path}/nas.db", read_only=True)
        assert f"no study database at {tmp_path}/nas.db" in two_lines(error)
        assert "nas search" in str(error.value)
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "nas.db").touch()
        with pytest.raises(NasError, match="no studies in"):
            Database(f"sqlite:///{tmp_path}/nas.db", read_only=True)

    def test_changes_nothing(self, tmp_path: Path) -> None:
        url = filled(tmp_path / "nas.db")
        before = (tmp_path / "nas.db").read_bytes()
        with Store(url, read_only=True) as store:
            assert len(store.trials("toy")) == 3
            with pytest.raises(RuntimeError, match="reading only"):
                store.create(toy_spec(name="other"))
        assert (tmp_path / "nas.db").read_bytes() == before

    def test_an_archive_in_a_folder_that_nobody_may_write(self, folder: Path) -> None:
        url = filled(folder / "nas.db")
        (folder / "nas.db").chmod(0o444)
        folder.chmod(0o555)
        with Store(url, read_only=True) as store:
            assert len(store.trials("toy")) == 3


class TestForeign:
    @pytest.mark.parametrize("read_only", [True, False])
    def test_a_file_that_is_no_database(self, tmp_path: Path, read_only: bool) -> None:
        path = tmp_path / "photo.db"
        path.write_bytes(b"\xff\xd8\xff\xe0" + b"JFIF" * 4000)
        before = path.read_bytes()
        with pytest.raises(NasError) as error:
            Database(f"sqlite:///{path}", read_only)
        assert "is not a database" in two_lines(error)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("read_only", [True, False])
    def test_tables_of_somebody_else(self, tmp_path: Path, read_only: bool) -> None:
        path = tmp_path / "optuna.db"
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE studies (id INTEGER)")
            other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.close()
        before = path.read_bytes()
        with pytest.raises(NasError) as error:
            Database(f"sqlite:///{path}", read_only)
        assert "is not a study database: it holds the tables alembic" in two_lines(error)
        assert path.read_bytes() == before

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(NasError, match="is a folder"):
            Database(f"sqlite:///{tmp_path}")


class TestDamage:
    def test_overwritten_pages(self, tmp_path: Path) -> None:
        url = filled(tmp_path / "nas.db", trials=200)
        content = bytearray((tmp_path / "nas.db").read_bytes())
        content[4096 : len(content) - 4096] = b"\xa5" * (len(content) - 8192)
        (tmp_path / "nas.db").write_bytes(content)
        with pytest.raises(NasError) as error, Store(url, read_only=True) as store:
            store.events("toy")
        assert "is damaged" in two_lines(error) and ".recover" in str(error.value)

    @pytest.mark.parametrize("bad", ["'{\"cut'", "CAST(x'ff7b' AS TEXT)"])
    def test_overwritten_values(self, tmp_path: Path, bad: str) -> None:
        url = filled(tmp_path / "nas.db")
        with sqlite3.connect(tmp_path / "nas.db") as raw:
            raw.execute(f"UPDATE event SET payload = {bad}")
        raw.close()
        with Store(url, read_only=True) as store, pytest.raises(NasError) as error:
            store.events("toy")
        assert "is damaged" in two_lines(error)


class TestNoRoom:
    def test_a_full_disk_keeps_what_was_recorded(self, tmp_path: Path) -> None:
        url = filled(tmp_path / "nas.db")
        with Store(url) as store:
            epoch = store.claim("toy")
            ask = store._database.read
            pages = ask(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
            ask(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 20}"))
            with pytest.raises(NasError) as error:
                add(store, epoch, range(3, 100), ballast="x" * 3000)
            assert "no room to write" in two_lines(error) and "--resume" in str(error.value)
            kept = len(store.trials("toy"))
            assert 3 < kept < 100 and len(store.events("toy")) == kept

    def test_a_file_that_may_not_grow(self, tmp_path: Path) -> None:
        url = filled(tmp_path / "nas.db")
        code = (
            "import resource, signal, sys\n"
            "from nas.core.errors import NasError\n"
            "from nas.core.trial import Event\n"
            "from nas.store.store import Store\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "with Store(sys.argv[1]) as store:\n"
            "    epoch = store.claim('toy')\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            "    try:\n"
            "        for n in range(3, 1000):\n"
            "            store.commit('toy', epoch, [Event('told', n, {'x': 'x' * 3000})])\n"
            "    except NasError as error:\n"
            "        print(error)\n"
        )
        home = str(Path(nas.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", code, url],
            capture_output=True, text=True, env={"PYTHONPATH": home}, check=True,
        )  # fmt: skip
        assert "what was recorded before is kept" in done.stdout
        assert done.stderr == "" and len(done.stdout.splitlines()) == 2
        with Store(url, read_only=True) as store:
            assert 3 < len(store.events("toy")) < 1000


class TestRights:
    def test_a_folder_that_cannot_be_made(self, folder: Path) -> None:
        folder.chmod(0o555)
        with pytest.raises(NasError) as error:
            Database(f"sqlite:///{folder}/studies/nas.db")
        assert "cannot make the folder" in two_lines(error)

    def test_a_file_in_the_way_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "studies").touch()
        with pytest.raises(NasError, match="cannot make the folder"):
            Database(f"sqlite:///{tmp_path}/studies/nas.db")

    def test_a_folder_that_cannot_be_written(self, folder: Path) -> None:
        folder.chmod(0o555)
        with pytest.raises(NasError) as error:
            Database(f"sqlite:///{folder}/nas.db")
        assert "cannot be opened" in two_lines(error)

    def test_a_file_that_cannot_be_written(self, folder: Path) -> None:
        url = filled(folder / "nas.db")
        (folder / "nas.db").chmod(0o444)
        with pytest.raises(NasError) as error:
            Database(url)
        assert "cannot be written" in two_lines(error)

    def test_a_file_that_cannot_be_read(self, folder: Path) -> None:
        url = filled(folder / "nas.db")
        (folder / "nas.db").chmod(0)
        with pytest.raises(NasError) as error:
            Database(url, read_only=True)
        assert "cannot be opened" in two_lines(error)


def test_a_lock_that_is_never_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = filled(tmp_path / "nas.db")
    monkeypatch.setattr("nas.store.database.PATIENCE_S", 0.05)
    holder = sqlite3.connect(tmp_path / "nas.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(NasError) as error:
        Database(url)
    assert "locked by another process" in two_lines(error)
    with Store(url, read_only=True) as reader:
        assert len(reader.trials("toy")) == 3
    holder.close()


def test_a_switch_to_the_log_waits_for_another_opener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "nas.db"
    other, mine = (sqlite3.connect(file, timeout=0, isolation_level=None) for _ in range(2))
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        other.execute("COMMIT") if len(waits) == 2 else None

    monkeypatch.setattr("nas.store.database.time.sleep", pause)
    _write_ahead(mine.cursor())
    assert len(waits) == 2
    assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for one in (other, mine):
        one.close()


def test_a_switch_to_the_log_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.store.database.PATIENCE_S", 0.05)
    other, mine = (sqlite3.connect(tmp_path / "nas.db", timeout=0) for _ in range(2))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        _write_ahead(mine.cursor())
    for one in (other, mine):
        one.close()


def test_power_saving_settings_are_the_promised_ones(tmp_path: Path) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    with Store(filled(tmp_path / "nas.db")) as store:
        asked = store._database.read(
            lambda c: {name: c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
        )
    assert asked == {
        "journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30000,
    }  # fmt: skip


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_what_a_column_holds_is_read_as_any_reader_of_json_would(value: object) -> None:
    for text in (json.dumps(value), f" {json.dumps(value)}\n", json.dumps(value).encode()):
        assert _decoded(text) == value


@pytest.mark.parametrize("text", ["", " ", "{}{}", '{"a": 1} b', "[1", "{} ]"])
def test_half_a_column_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        _decoded(text)


def test_a_front_goes_through_its_contenders_alone(tmp_path: Path) -> None:
    """Of a million trials; in the order of their numbers SQLite would go through all of them."""
    with Store(filled(tmp_path / "nas.db")) as store:
        engine, asked = store._database._engine, []

        def before(connection: object, cursor: object, statement: str, given: tuple[object, ...],
                   *_: object) -> None:  # fmt: skip
            asked.append((statement, given))

        event.listen(engine, "before_cursor_execute", before)
        store.trials("toy", contenders=True)
        (statement, given) = asked[-1]
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
    assert "ix_trial_standing (study=? AND state=? AND contender=?)" in str(plan)
