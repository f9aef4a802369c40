"""The record of every search: what was tried, in what order, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from threading import RLock
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from nas.core.errors import NasError, unknown
from nas.core.front import Front
from nas.core.study import StudySpec
from nas.core.trial import Evaluation, Event, Timing, Trial
from nas.store import rows, schema
from nas.store.database import Database
from nas.store.listing import STATES, StudyRow, columns, study_row, writer_of
from nas.store.tail import Change, Commit, Tail
from nas.store.writer import Writer

# Written once, since building them takes longer than SQLite takes to run them
_ADD_EVENTS = insert(schema.Event)
_ADVANCE = (
    update(schema.Study)
    .where(
        schema.Study.name == bindparam("of"),
        schema.Study.epoch == bindparam("since"),
        schema.Study.sequence == bindparam("after"),
    )
    .values(sequence=schema.Study.sequence + bindparam("more"), updated=bindparam("now"))
)
_BEATEN = (
    update(schema.Trial)
    .where(schema.Trial.study == bindparam("of"), schema.Trial.number == bindparam("out"))
    .values(contender=False)
)
_EVALUATION = select(schema.Evaluation.values).where(
    *(getattr(schema.Evaluation, name) == bindparam(name)
      for name in ("key", "build", "recipe", "data", "rung", "seed"))
)  # fmt: skip


class Store:
    """A database of studies. One process writes a study; any number of them read it meanwhile.

    Args:
        url: `sqlite:///PATH` or `postgresql+psycopg://...`.
        read_only: change nothing, and fail where there is nothing to read.
        make: whether a writer makes a database that is not there, or fails.

    Raises: NasError, here and in every method, for what is outside the program's hands: a missing,
    foreign, damaged, locked or full database, a study that is unknown or written by another.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/nas.db") as store:
    ...     store.studies()
    []
    """

    def __init__(self, url: str, read_only: bool = False, make: bool = True) -> None:
        self._database = Database(url, read_only, make)
        self._put_trials = self._upsert(schema.Trial)
        self._put_evaluations = self._upsert(schema.Evaluation)
        self._put_timings = self._upsert(schema.Measurement)
        self._put_fronts = self._upsert(schema.Front)
        self._tails: dict[tuple[str, int], Tail] = {}
        self._lock = RLock()  # commits of one writer follow one another
        known = self._database.insert(schema.Architecture)
        self._put_architectures = known.on_conflict_do_nothing()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the database."""
        self._database.close()

    # -- studies

    def create(self, spec: StudySpec) -> None:
        """Adds a study that has not begun. Raises: NasError where the name is taken."""
        now = _now()
        row = {"name": spec.name, **columns(spec), "created": now, "updated": now}
        try:
            self._database.write(lambda c: c.execute(insert(schema.Study), row))
        except IntegrityError:
            raise NasError(
                f"study {spec.name!r} is there already",
                f"go on with it: nas search --study {spec.name} --resume; or take another name",
            ) from None

    def revise(self, spec: StudySpec, epoch: int) -> None:
        """Replaces the spec of a claimed study, as when it is resumed with more trials."""
        study = schema.Study
        change = update(study).where(study.name == spec.name)
        self._add(spec.name, epoch, [(change, columns(spec))])

    def studies(self) -> list[StudyRow]:
        """Every study, the last written first."""
        study, trial = schema.Study, schema.Trial
        listed = select(study).order_by(study.updated.desc(), study.name)
        counted = select(trial.study, trial.state, func.count()).group_by(trial.study, trial.state)

        def found(connection: Connection) -> list[StudyRow]:
            counts = {(name, state): n for name, state, n in connection.execute(counted)}
            return [study_row(row, counts) for row in connection.execute(listed).mappings()]

        return self._database.read(found)

    def spec(self, study: str) -> StudySpec:
        """What the study is. Raises: NasError with the nearest names where there is none such."""
        return StudySpec.from_json(self._database.read(lambda c: self._study(c, study)["spec"]))

    # -- one writer

    def claim(self, study: str, take_over: bool = False) -> int:
        """Makes this process the study's only writer; its commits carry the number returned.

        The claim of a process of this host that has ended passes over silently.

        Raises: NasError where another process holds the study, is alive or on another host (where
        nobody here can know), and `take_over` is not given.
        """
        me, table = Writer.this(), schema.Study

        def claimed(connection: Connection) -> tuple[int, int]:
            row = self._study(connection, study, lock=True)
            holder = writer_of(row)
            if holder is not None and holder.alive is not False and not take_over:
                raise NasError(
                    f"study {study!r} is being written by {holder}",
                    "let it end, or type --take-over if that process is no longer at work",
                )
            claim = {
                "epoch": row["epoch"] + 1,
                "writer_host": me.host,
                "writer_process": me.process,
                "writer_started": me.started,
            }
            connection.execute(update(table).where(table.name == study).values(**claim))
            return row["epoch"] + 1, row["sequence"]

        epoch, sequence = self._database.write(claimed)
        with self._lock:
            self._tails[study, epoch] = Tail(sequence)
        return epoch

    def release(self, study: str, epoch: int) -> None:
        """Ends this process's claim, and with it the right to commit; nothing if it was lost."""
        table = schema.Study
        freed = (
            update(table)
            .where(table.name == study, table.epoch == epoch)
            .values(epoch=epoch + 1, writer_host=None, writer_process=None, writer_started=None)
        )
        self._database.write(lambda c: c.execute(freed))
        with self._lock:
            self._tails.pop((study, epoch), None)

    # -- what happened

    def commit(
        self,
        study: str,
        epoch: int,
        events: Sequence[Event] = (),
        trials: Sequence[Trial] = (),
        evaluations: Sequence[Evaluation] = (),
        timings: Sequence[Timing] = (),
        beaten: Sequence[int] = (),
    ) -> None:
        """Adds a decision to the record, whole or not at all, and exactly once.

        On a server the disk is not waited for: what a crash of it may cost, the last second, is
        kept here as well and written again. Only a crash of both at once loses that second, and
        then of all decisions the last ones.

        Args:
            study: the study, claimed by this process.
            epoch: what `claim` returned.
            events: what happened, in order; they follow those stored before.
            trials: the trials that these events changed, as they are now.
            evaluations: training results for any study; a newer one replaces an older.
            timings: measurements for any study; a newer one replaces an older.
            beaten: trials that are no contenders for the front from now on.

        Raises: NasError where another process took the study over. ValueError for a number that
        JSON does not know (NaN, infinity).
        """
        now = _now()
        changes: list[Change] = []
        if trials:
            stamp = {"study": study, "created": now, "updated": now}
            # its architecture comes with the event that proposed a trial
            begun = {e.trial for e in events if e.kind == "proposed"} if events else None
            new = [t for t in trials if begun is None or t.number in begun]
            if new:
                known = [rows.architecture_row(t) for t in new]
                changes.append((self._put_architectures, known))
            put = [{**rows.trial_row(t, t.key), **stamp} for t in trials]
            changes.append((self._put_trials, put))
        if evaluations:
            stamped = [{**vars(e), "created": now} for e in evaluations]
            changes.append((self._put_evaluations, stamped))
        if timings:
            stamped = [{**rows.timing_row(t), "created": now} for t in timings]
            changes.append((self._put_timings, stamped))
        if beaten:
            changes.append((_BEATEN, [{"of": study, "out": number} for number in beaten]))
        happened = [{"study": study, "created": now, **rows.event_row(e)} for e in events]
        self._add(study, epoch, changes, happened, lasting=False)

    def events(self, study: str) -> list[Event]:
        """What happened in a study, in order."""
        table = schema.Event
        wanted = (
            select(table.kind, table.trial, table.payload)
            .where(table.study == study)
            .order_by(table.sequence)
        )

        def found(connection: Connection) -> list[Event]:
            self._study(connection, study)
            return [Event(kind, trial, load) for kind, trial, load in connection.execute(wanted)]

        return self._database.read(found)

    def moments(self, study: str) -> list[datetime]:
        """When each event of a study was recorded, in order."""
        table = schema.Event
        wanted = select(table.created).where(table.study == study).order_by(table.sequence)

        def found(connection: Connection) -> list[datetime]:
            self._study(connection, study)
            return list(connection.execute(wanted).scalars())

        return self._database.read(found)

    def counts(self, study: str) -> dict[str, int]:
        """How many trials of a study are in each state."""
        trial = schema.Trial
        wanted = select(trial.state, func.count()).where(trial.study == study)

        def found(connection: Connection) -> dict[str, int]:
            self._study(connection, study)
            rows = connection.execute(wanted.group_by(trial.state))
            return dict.fromkeys(STATES, 0) | {state: number for state, number in rows}

        return self._database.read(found)

    def trials(
        self, study: str, contenders: bool = False, number: int | None = None
    ) -> list[Trial]:
        """The trials of a study, by number; or of them one, or its front's contenders alone.

        These come with what a front needs alone: one of a million trials has thousands.
        """
        table, point = schema.Trial, schema.Architecture
        needed = rows.STANDING if contenders else (*rows.SAME, *rows.MADE)
        columns = [getattr(table, name) for name in needed]
        names = [*needed, "key", "space", "choices"]
        wanted = (
            select(*columns, point.key, point.space, point.choices)
            .join(point, point.key == table.architecture)
            .where(table.study == study)
        )
        if contenders:
            wanted = wanted.where(table.state == "complete", table.contender)
        if number is not None:
            wanted = wanted.where(table.number == number)

        def found(connection: Connection) -> list[Trial]:
            self._study(connection, study)
            # put in order here: SQLite would go through a million trials to have them in order
            lines = sorted(connection.execute(wanted), key=itemgetter(0))
            return [rows.trial_of(dict(zip(names, line, strict=True))) for line in lines]

        return self._database.read(found)

    # -- results that any study may use

    def evaluation(
        self, key: str, build: str, recipe: str, data: str, rung: int, seed: int
    ) -> Evaluation | None:
        """What this training brought, in whatever study; None if nobody did it."""
        named = {"key": key, "build": build, "recipe": recipe, "data": data,
                 "rung": rung, "seed": seed}  # fmt: skip
        values = self._database.read(lambda c: c.execute(_EVALUATION, named).scalar())
        return None if values is None else Evaluation(**named, values=values)  # type: ignore[arg-type]

    def timing(
        self, build: str, form: str, workload: str, host: str, runtime: str, protocol: str
    ) -> Timing | None:
        """What timing this graph brought, in whatever study; None if nobody did it."""
        wanted = select(schema.Measurement).filter_by(
            build=build, form=form, workload=workload, host=host, runtime=runtime, protocol=protocol
        )
        row = self._database.read(lambda c: c.execute(wanted).mappings().first())
        return None if row is None else rows.timing_of(row)

    # -- the front

    def save_front(self, study: str, epoch: int, front: Front) -> None:
        """Keeps the study's front on the front's device, in place of an earlier one."""
        member = schema.FrontMember
        replaced = delete(member).where(member.study == study, member.device == front.device)
        changes: list[Change] = [
            (self._put_fronts, {**rows.front_row(front), "created": _now()}), (replaced, None),
        ]  # fmt: skip
        if front.members:
            changes.append((insert(member), rows.member_rows(front)))
        self._add(study, epoch, changes)

    def front(self, study: str, device: str | None = None) -> Front | None:
        """The front last kept for a device, the study's own by default; None if there is none."""
        table, member = schema.Front, schema.FrontMember
        trial, point = schema.Trial, schema.Architecture

        def found(connection: Connection) -> Front | None:
            place = device or self._study(connection, study)["device"]
            wanted = select(table).where(table.study == study, table.device == place)
            row = connection.execute(wanted).mappings().first()
            if row is None:
                return None
            members = connection.execute(
                select(member, point.key, point.choices)
                .join(trial, (trial.study == member.study) & (trial.number == member.trial))
                .join(point, point.key == trial.architecture)
                .where(member.study == study, member.device == place)
                .order_by(member.position)
            )
            return rows.front_of_rows(row, list(members.mappings()))

        return self._database.read(found)

    # -- parts

    def _upsert(self, table: type[schema.Base]) -> sqlite.Insert | postgresql.Insert:
        """An insert that replaces what a row of the same primary key holds, but not its age."""
        statement = self._database.insert(table)
        columns = table.__table__.columns
        changed = {
            c.name: statement.excluded[c.name]
            for c in columns
            if not c.primary_key
            and c.name != "contender"
            and (c.name != "created" or "updated" not in columns)
        }
        keys = [c.name for c in columns if c.primary_key]
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)

    def _study(self, connection: Connection, study: str, lock: bool = False) -> RowMapping:
        table = schema.Study
        wanted = select(table).where(table.name == study)
        row = connection.execute(wanted.with_for_update() if lock else wanted).mappings().first()
        if row is None:
            raise unknown("study", study, connection.execute(select(table.name)).scalars())
        return row

    def _add(
        self,
        study: str,
        epoch: int,
        changes: Sequence[Change],
        events: Sequence[Mapping[str, Any]] = (),
        lasting: bool = True,
    ) -> None:
        """A transaction of the study's writer, written once whatever is lost on the way.

        Raises: NasError where the claim, or what was recorded before, is lost.
        """
        lasting = lasting or self._database.path is not None
        with self._lock:
            tail = self._tails.get((study, epoch))
            if tail is None:
                at = self._database.read(lambda c: int(self._study(c, study)["sequence"]))
                tail = self._tails.setdefault((study, epoch), Tail(at))
            commit = Commit(tail.end, events, changes)
            tries = 0

            def written(connection: Connection) -> None:
                nonlocal tries
                tries += 1
                if self._advanced(connection, study, epoch, commit):
                    return
                for missing in self._missing(connection, study, epoch, tail, commit, tries > 1):
                    self._advanced(connection, study, epoch, missing)

            self._database.write(written, again=True, lasting=lasting)
            tail.add(commit, lasting)

    def _advanced(self, connection: Connection, study: str, epoch: int, commit: Commit) -> bool:
        """Writes a commit; False, and nothing, unless it is the next one of its claim."""
        given = {"of": study, "since": epoch, "after": commit.first, "more": len(commit.events),
                 "now": _now()}  # fmt: skip
        if not connection.execute(_ADVANCE, given).rowcount:
            return False
        if commit.events:
            numbered = [{**e, "sequence": n} for n, e in enumerate(commit.events, commit.first)]
            connection.execute(_ADD_EVENTS, numbered if len(numbered) > 1 else numbered[0])
        for statement, values in commit.changes:
            single = values[0] if isinstance(values, list) and len(values) == 1 else None
            connection.execute(statement, single or values)  # drivers do single rows faster
        return True

    def _missing(
        self,
        connection: Connection,
        study: str,
        epoch: int,
        tail: Tail,
        commit: Commit,
        again: bool,
    ) -> list[Commit]:
        """What is to be written where a commit was not the next: it, and what the server lost.

        Nothing, where an attempt that seemed to fail was kept after all.
        """
        row = self._study(connection, study, lock=True)
        resume = f"nothing recorded is lost; go on with nas search --study {study} --resume"
        if row["epoch"] != epoch:
            holder = writer_of(row)
            raise NasError(
                f"study {study!r} is no longer written by this process"
                + (f": {holder} took it over" if holder else ""),
                resume,
            )
        if again and commit.events and row["sequence"] == commit.end:
            return []
        lost = tail.since(row["sequence"])
        if lost is None:
            raise NasError(
                f"{self._database.place} has {row['sequence']} decisions of study {study!r}, "
                f"where {commit.first} were made",
                f"go on from what it has: nas search --study {study} --resume",
            )
        return [*lost, commit]


def _now() -> datetime:
    return datetime.now(UTC)
