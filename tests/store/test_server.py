"""What is PostgreSQL's own: outages, crashes, roles, and passwords that nobody may see."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import postgres
import pytest
from conftest import toy_space, toy_spec
from sqlalchemy import create_engine, event, text
from wire import Wire

import nas
from nas.core.errors import NasError
from nas.core.front import Front
from nas.core.measurement import Measurement
from nas.core.trial import Evaluation, Event, Timing, Trial
from nas.store import database, schema, tail
from nas.store.store import Store

pytestmark = pytest.mark.slow

V1 = Path(__file__).with_name("v1.sql")
ROLES = Path(database.__file__).with_name("roles.sql")
POINT = toy_space().architecture({"kernel": 5, "depth": 2, "width": 16})


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    if not postgres.available() or postgres.GIVEN:
        pytest.skip(f"these tests stop and start a server of their own: {postgres.MISSING}")
    with postgres.server() as started:
        yield started


@pytest.fixture
def url(server: postgres.Server) -> str:
    return postgres.fresh(server.url())


def add(store: Store, epoch: int, numbers: range) -> None:
    for number in numbers:
        event = Event("proposed", number, {"notes": {}})
        store.commit("toy", epoch, [event], [Trial(number, POINT)])


def run(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


class TestAway:
    def test_a_crash_is_ridden_out_and_what_it_cost_written_again(
        self, server: postgres.Server, url: str
    ) -> None:
        with Store(url) as store:
            store.create(toy_spec(trials=400))
            epoch = store.claim("toy")
            add(store, epoch, range(20))
            back = threading.Timer(1.0, server.start)
            server.stop("immediate")
            back.start()
            add(store, epoch, range(20, 40))  # waits
            back.join()
            assert [e.trial for e in store.events("toy")] == list(range(40))
            assert len(store.trials("toy")) == 40

    def test_commits_that_the_server_lost_are_written_again(self, url: str) -> None:
        with Store(url) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            add(store, epoch, range(6))
            # what a crash leaves: the last four commits are gone
            run(url, "DELETE FROM event WHERE sequence >= 2", "DELETE FROM trial WHERE number >= 2",
                "UPDATE study SET sequence = 2")  # fmt: skip
            add(store, epoch, range(6, 8))
            assert [e.trial for e in store.events("toy")] == list(range(8))
            assert [t.number for t in store.trials("toy")] == list(range(8))

    def test_what_was_lost_too_long_ago_ends_the_search(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tail, "KEPT_S", -1.0)
        with Store(url) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            add(store, epoch, range(4))
            run(url, "DELETE FROM event WHERE sequence >= 2", "UPDATE study SET sequence = 2")
            with pytest.raises(NasError, match=r"has 2 decisions [\s\S]*--resume"):
                add(store, epoch, range(4, 5))

    def test_a_commit_kept_though_its_answer_was_lost_is_not_made_twice(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Store(url) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            engine = store._database._engine
            whole, lost = type(engine.dialect).do_commit, []

            def commit(dialect: object, connection: object) -> None:
                whole(dialect, connection)  # type: ignore[arg-type]
                if not lost:
                    lost.append(True)
                    connection.driver_connection.close()  # type: ignore[attr-defined]
                    raise engine.dialect.loaded_dbapi.OperationalError("the line was cut")

            monkeypatch.setattr(engine.dialect, "do_commit", commit.__get__(engine.dialect))
            add(store, epoch, range(3))
            assert lost and [e.trial for e in store.events("toy")] == [0, 1, 2]

    @pytest.mark.parametrize("lost", ["INSERT INTO event", "INSERT INTO trial"])
    def test_a_line_that_dies_inside_a_commit_holds_nobody_up(
        self, server: postgres.Server, url: str, monkeypatch: pytest.MonkeyPatch, lost: str
    ) -> None:
        """The server is not told, and keeps what the transaction had locked."""
        monkeypatch.setattr(database, "INSIDE_S", 0.3)
        monkeypatch.setattr(database, "PATIENCE_S", 3.0)
        with Wire(server.port) as wire, Store(wire.reached(url)) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            add(store, epoch, range(2))
            died: list[str] = []

            def before(connection: object, cursor: object, statement: str, *_: object) -> None:
                if statement.startswith(lost) and not died:
                    died.append(statement)
                    wire.vanish()

            event.listen(store._database._engine, "before_cursor_execute", before)
            add(store, epoch, range(2, 6))
            assert died and [e.trial for e in store.events("toy")] == list(range(6))
            assert [t.number for t in store.trials("toy")] == list(range(6))

    def test_a_writer_that_stood_still_inside_a_commit_goes_on(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when its machine slept for longer than any outage is waited for."""
        clock = [0.0]
        monkeypatch.setattr(database.time, "monotonic", lambda: clock[0])
        with Store(url) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            slept: list[str] = []

            def before(connection: object, cursor: object, statement: str, *_: object) -> None:
                if statement.startswith("INSERT INTO event") and not slept:
                    slept.append(statement)
                    clock[0] += 2 * database.OUTAGE_S
                    run(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                             "WHERE state = 'idle in transaction'")  # fmt: skip

            event.listen(store._database._engine, "before_cursor_execute", before)
            add(store, epoch, range(3))
            assert slept and [e.trial for e in store.events("toy")] == list(range(3))

    def test_a_commit_that_waited_for_the_server_is_kept_from_then_on(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr(tail, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        with Store(url) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            add(store, epoch, range(2))
            whole = store._advanced

            def late(*given: object) -> bool:
                monkeypatch.setattr(store, "_advanced", whole)
                clock[0] += 2 * tail.KEPT_S
                return whole(*given)  # type: ignore[arg-type]

            monkeypatch.setattr(store, "_advanced", late)
            add(store, epoch, range(2, 4))
            run(url, "DELETE FROM event WHERE sequence >= 2", "DELETE FROM trial WHERE number >= 2",
                "UPDATE study SET sequence = 2")  # fmt: skip
            add(store, epoch, range(4, 5))
            assert [e.trial for e in store.events("toy")] == list(range(5))

    def test_a_server_that_never_answered_is_not_waited_for(self) -> None:
        began = time.monotonic()
        with pytest.raises(NasError, match="does not answer"):
            Store("postgresql+psycopg://me:secret@127.0.0.1:1/nas")
        assert time.monotonic() - began < 5

    def test_patience_ends(self, server: postgres.Server, url: str,
                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        monkeypatch.setattr(database, "OUTAGE_S", 0.3)
        with Store(url) as store:
            store.create(toy_spec())
            server.stop()
            with pytest.raises(NasError, match="does not answer"):
                store.studies()
        server.start()


class TestReaders:
    def test_read_while_a_writer_is_inside_a_transaction(self, url: str) -> None:
        with Store(url) as store, Store(url, read_only=True) as reader:
            store.create(toy_spec())
            add(store, store.claim("toy"), range(2))

            def inside(connection: object) -> int:
                connection.execute(text("UPDATE study SET sequence = 99"))  # type: ignore[attr-defined]
                return len(reader.events("toy"))

            assert store._database.write(inside) == 2

    def test_cannot_write(self, url: str) -> None:
        with Store(url) as store:
            store.create(toy_spec())
        with Store(url, read_only=True) as reader, pytest.raises(NasError, match="only be read"):
            reader._database.read(lambda c: c.execute(text("UPDATE study SET sequence = 99")))


class TestMigrations:
    def test_an_older_database_is_brought_up_to_date(self, url: str) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        from nas.store import migrate

        engine = create_engine(url)
        with engine.begin() as connection:
            steps = list(migrate.scripts().walk_revisions())
            context = MigrationContext.configure(
                connection, opts={"version_table": schema.VERSION_TABLE}
            )
            with migrate.Operations.context(context):
                steps[-1].module.upgrade()
                context.stamp(migrate.scripts(), steps[-1].revision)
            connection.exec_driver_sql("SET session_replication_role = replica")  # in any order
            for line in V1.read_text().splitlines():
                if line.startswith('INSERT INTO "') and schema.VERSION_TABLE not in line:
                    connection.exec_driver_sql(line.replace("%", "%%"))
            connection.exec_driver_sql("SET session_replication_role = origin")
        with pytest.raises(NasError, match="of an older nas"):
            Store(url, read_only=True)
        with Store(url) as store:
            [study] = store.studies()
            assert (
                study.name == "toy" and len(store.trials("toy")) == sum(study.counts.values()) == 3
            )
            assert len(store.events("toy")) > 3
        with engine.connect() as connection:
            options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, schema.Base.metadata) == []
        engine.dispose()


class TestRoles:
    def test_who_searches_adds_and_cannot_rewrite_and_who_reads_only_reads(
        self, server: postgres.Server, url: str
    ) -> None:
        command = [sys.executable, "-m", "nas", "studies", "--create", "--storage", url]
        subprocess.run(command, capture_output=True, check=True)
        run(url, ROLES.read_text())
        for who, role in (("ada", "nas_searches"), ("bob", "nas_reads")):
            run(url, f"DROP ROLE IF EXISTS {who}", f"CREATE ROLE {who} LOGIN IN ROLE {role}")
        ada, bob = url.replace("nas@", "ada@"), url.replace("nas@", "bob@")
        with Store(ada) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            add(store, epoch, range(3))
            latency = Measurement("latency_ms", 2.0, "ms", 1.0, 3.0, 0.5, 5, "measured", "file")
            store.commit(
                "toy", epoch,
                evaluations=[Evaluation("k", "b", "r", "d", 3, 0, {"rung": {"score": 1.0}})],
                timings=[Timing("b", "trained", "b1", "h", "ort", "p", "cpu", latency)],
            )  # fmt: skip
            for _ in range(2):  # the second in place of the first
                store.save_front("toy", epoch, Front("toy", "toy", "cpu", (), (), {}, 0.0, ()))
            store.release("toy", epoch)
            for forbidden in (
                "UPDATE event SET trial = 0", "DELETE FROM event", "DELETE FROM trial",
                "UPDATE architecture SET space = ''", "DROP TABLE event",
            ):  # fmt: skip
                with pytest.raises(NasError, match=r"may not do this|permission|owner"):
                    store._database.write(lambda c, what=forbidden: c.execute(text(what)))
        with Store(bob, read_only=True) as reader:
            assert len(reader.events("toy")) == 3
        with Store(bob) as store, pytest.raises(NasError, match="your role may not"):
            store.create(toy_spec(name="bobs"))


class TestSecrets:
    SECRET = "hunter2"

    def test_no_message_names_the_password(self) -> None:
        url = f"postgresql+psycopg://me:{self.SECRET}@127.0.0.1:1/nas"
        command = [sys.executable, "-m", "nas", "studies", "--storage", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and self.SECRET not in done.stdout + done.stderr

    def test_no_row_holds_it(self, server: postgres.Server, url: str) -> None:
        secret = url.replace("nas@", f"nas:{self.SECRET}@")  # trusted here, whatever it is
        with Store(secret) as store:
            store.create(toy_spec())
            epoch = store.claim("toy")
            add(store, epoch, range(2))
        database_name = url.rpartition("/")[2]
        dump = subprocess.run(
            [str(postgres.program("pg_dump")), "-h", "127.0.0.1", "-p", str(server.port), "-U",
             "nas", database_name],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "toy" in dump.stdout and self.SECRET not in dump.stdout

    def test_workers_are_not_given_the_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from nas.runners.processes import hire

        monkeypatch.setenv("NAS_STORAGE", f"postgresql+psycopg://me:{self.SECRET}@host/nas")
        for name in ("PGPASSWORD", "PGUSER", "PGHOST", "PGPASSFILE", "PGSERVICE"):
            monkeypatch.setenv(name, self.SECRET)
        monkeypatch.setenv("PYTHONPATH", str(Path(nas.__file__).parents[1]))
        worker = hire({"memory_bytes": 0, "work": "time:sleep"})
        try:
            environment = Path(f"/proc/{worker.process.pid}/environ").read_bytes()
        finally:
            worker.end()
        assert self.SECRET.encode() not in environment
