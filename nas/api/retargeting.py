"""`nas.retarget`: the stored candidates of a study on another device, without any training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from nas.api.files import file_of, resized
from nas.api.places import artifacts_of, storage_url
from nas.api.study import compared
from nas.core import ledger
from nas.core.errors import NasError
from nas.core.front import known_rows, moved, shippable, standings
from nas.core.job import Workload
from nas.core.known import seed_deviation
from nas.core.measurement import Measurement
from nas.core.retarget import Retarget, candidates, compare, searched, timed
from nas.core.study import StudySpec
from nas.core.trial import Event, Timing, Trial, measurement_name
from nas.hardware.device import Device, named
from nas.hardware.lease import Lease, default_folder
from nas.runners.benches import bench
from nas.session import Bench
from nas.store.artifacts import Artifacts
from nas.store.store import Store

BATCH = 12  # files timed in turn; a killed process loses no more
NEAR = 0.02  # a lower probability of being on the front is not worth a measurement
PROCESSES = 3
WORK = Workload()  # what a search measures


class Watcher(Protocol):
    """Whoever looks on while candidates are timed."""

    def on(self, what: str, done: int, total: int) -> None:
        """Called when `done` of `total` are stored."""
        ...


def retarget(
    study: str,
    device: str,
    *,
    runtime: str | None = None,
    limit: int | None = None,
    fresh: bool = False,
    take_over: bool = False,
    workloads: Sequence[str] = (),
    storage: str | None = None,
    watch: Watcher | None = None,
) -> Retarget:
    """Measures or predicts a study's trained candidates on a device, and works out its front there.

    Where the device is attached the files are timed in batches, those likeliest on a front first,
    and those that may be on this front once more, interleaved, in three fresh processes. What an
    earlier call timed on the same host under the same runtime and protocol is not timed again.
    Elsewhere they are predicted, again at every call, as a calibration may have come since; a
    prediction never takes the place of a measurement. Each batch is stored before the next begins.

    The study is claimed as a search claims it, since its history, trials and fronts change.

    Args:
        study: its name.
        device: where to; the study's own is measured again.
        runtime: what runs the files there, `NAME[:OPTION+OPTION]`; the device's own by default, the
            study's on the study's device, whose numbers are never of two.
        limit: only so many candidates, in the order of `nas.core.retarget.candidates`.
        fresh: times again what was timed before.
        take_over: claims a study whose writer is thought dead.
        workloads: what is timed instead of one example at the task's own resolution: `b8`, `b1-8`
            (1, 2, 4 and 8), `r64`, `b1s4` (four callers at once). Such numbers are no objectives of
            the front; `nas pick` takes limits on them (`latency_ms:b1-8<=12`).
        watch: called when a batch is stored.

    Raises:
        NasError: for an unknown study or device, a study that another process writes, or one
            without trained candidates.
    """
    target, url = named(device), storage_url(storage)
    with Store(url, make=False) as store, claimed(store, study, take_over) as epoch:
        spec = store.spec(study)
        target = _under(spec, target, runtime)
        record = Record(store, spec, epoch, target, artifacts_of(url, spec), watch)
        chosen = candidates(record.spec, record.trials)[:limit]
        asked = [work for text in workloads for work in Workload.parse(text)] or [WORK]
        if not chosen:
            raise NasError(
                f"study {study!r} has no trained candidates", f"see why: nas show {study}"
            )
        where, failed = bench(target), dict[int, str]()
        for work in dict.fromkeys(asked):
            under = replace(record, work=work)
            failed |= (
                _predict(under, chosen) if where is None else Timer(under, where, fresh).run(chosen)
            )
            record.trials, record.events = under.trials, under.events
        before = searched(record.events)
        found = compare(record.spec, before, record.trials, target.name, failed)
        store.save_front(study, epoch, found.front)
        return replace(found, front=compared(found.front, record.trials))


def _under(spec: StudySpec, device: Device, runtime: str | None) -> Device:
    """The device under the runtime asked for. Raises: NasError where the study has another."""
    own, found = device.under(spec.runtime_on(device.name)), device.under(runtime)
    if runtime is None or (device.name == spec.device and found.engine == own.engine):
        return own
    if device.name == spec.device:
        raise NasError(
            f"the numbers of {spec.name!r} on {device.name} are under {own.engine}, and a front "
            "compares no two runtimes",
            f"give the device another name: a file in hardware_profiles/ with the line  "
            f'runtime = "{found.engine}"',
        )
    return found


@contextmanager
def claimed(store: Store, study: str, take_over: bool) -> Iterator[int]:
    """This process's claim to write a study, as its epoch; let go of at the end."""
    epoch = store.claim(study, take_over=take_over)
    try:
        yield epoch
    finally:
        store.release(study, epoch)


@dataclass
class Record:
    """A claimed study to which the numbers of one device are added."""

    store: Store
    spec: StudySpec
    epoch: int
    device: Device
    artifacts: Artifacts
    watch: Watcher | None = None
    work: Workload = WORK
    events: list[Event] = field(init=False)
    trials: list[Trial] = field(init=False)

    def __post_init__(self) -> None:
        self.events = self.store.events(self.spec.name)
        self.trials = self.store.trials(self.spec.name)

    @property
    def form(self) -> str:
        """What is timed: the file that ships, untrained where the study trains nothing."""
        return "trained" if self.spec.trains else "untrained"

    @property
    def basis(self) -> str:
        """What a measurement here is of, in its own words."""
        return "trained file" if self.spec.trains else "untrained form"

    @property
    def lease(self) -> Lease:
        """The right to the device, held while anything is measured."""
        return Lease(default_folder(), self.device.seat)

    def known(self, trial: Trial) -> Measurement | None:
        """What is known of the trial on the device."""
        name = measurement_name("latency_ms", self.device.name, self.work.name, self.form)
        return trial.measurements.get(name)

    def file(self, trial: Trial) -> tuple[Path, str]:
        """The trial's file for the device, and its build."""
        if self.work.resolution is not None:
            return resized(self.spec, self.artifacts, trial, self.device, self.work.resolution)
        return file_of(self.spec, self.artifacts, trial, self.device)

    def note(
        self,
        found: Mapping[int, Measurement | str],
        where: Bench | None = None,
        builds: Mapping[int, str] | None = None,
        processes: int = 1,
    ) -> None:
        """Stores what a batch brought in one transaction; a failure with its reason.

        Args:
            found: trial -> its number or why there is none.
            where: under which conditions it was measured; None where it is predicted.
            builds: trial -> build of the file that was timed.
            processes: in how many.
        """
        common = {"job": "retarget", "device": self.device.name}
        timing = {"form": self.form, "workload": self.work.name, "processes": processes,
                  "bench": None if where is None else asdict(where)}  # fmt: skip
        events, timings = [], []
        for number, value in found.items():
            if isinstance(value, str):
                events.append(Event("reported", number, {**common, "error": value}))
                continue
            payload = {**common, **timing, "measurement": value.to_json()}
            events.append(Event("reported", number, payload))
            if where is not None and builds is not None:
                rules = where.protocol
                if value.objective != "latency_ms":
                    rules = f"{value.objective} {rules}"
                timings.append(
                    Timing(
                        builds[number], self.form, self.work.name, where.host, where.runtime,
                        rules, self.device.name, value,
                    )
                )  # fmt: skip
        for event in events:
            self.trials[event.trial] = ledger.reported(self.trials[event.trial], event.payload)
        changed = [self.trials[event.trial] for event in events]
        self.store.commit(self.spec.name, self.epoch, events, changed, timings=timings)
        self.events += events

    def tell(self, what: str, done: int, total: int) -> None:
        """Passes on how far the work has come."""
        if self.watch is not None:
            self.watch.on(what, done, total)


def _predict(record: Record, chosen: Sequence[Trial]) -> dict[int, str]:
    """Predicts the candidates that were never measured on the device; why some cannot be.

    Raises: NasError, before anything is stored, where none could be.
    """
    from nas.hardware.prediction.predict import predict, predictable

    predictable(record.device)
    failed: dict[int, str] = {}
    known = {t.number: record.known(t) for t in chosen}
    waiting = [t for t in chosen if (m := known[t.number]) is None or m.source == "predicted"]
    if record.work.streams > 1:
        return dict.fromkeys((t.number for t in chosen), "callers at once are not predicted")
    what = f"predicting {_under_what(record)}"
    record.tell(what, 0, len(waiting))
    for done, trial in enumerate(waiting, 1):
        try:
            file, _ = record.file(trial)
            found: Measurement | str = predict(file, record.device, record.work)
        except NasError as error:
            found = failed[trial.number] = str(error)
        if found != known[trial.number]:
            record.note({trial.number: found})
        record.tell(what, done, len(waiting))
    return failed


@dataclass
class Timer:
    """Times candidates on an attached device.

    Args:
        record: where the numbers go.
        where: under which conditions they are taken.
        fresh: whether what was timed under these conditions is timed again.
    """

    record: Record
    where: Bench
    fresh: bool
    known: dict[int, int] = field(init=False)  # trial -> in how many processes it was timed
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = self._earlier("latency_ms")

    def _earlier(self, objective: str) -> dict[int, int]:
        record = self.record
        if self.fresh:
            return {}
        bench, work = asdict(self.where), record.work.name
        return timed(record.events, record.device.name, bench, objective, work)

    def run(self, chosen: Sequence[Trial]) -> dict[int, str]:
        """Times what is not known, then the front in three processes; why some files fail.

        What the study measures besides time is measured in between, each file by itself.
        """
        record, waiting = self.record, iter([t for t in chosen if t.number not in self.known])
        total, done = len(chosen) - sum(t.number in self.known for t in chosen), 0
        what = f"timing {_under_what(record)}"
        record.tell(what, 0, total)
        while batch := list(islice(waiting, BATCH)):
            self._time(batch, 1)
            done += len(batch)
            record.tell(what, done, total)
        if record.work != WORK:
            return self.failed
        for objective in record.spec.probes:
            self._probe(objective, [t for t in chosen if t.number in self.known])
        while near := self._near():
            what = f"timing {len(near)} of the front again, {PROCESSES} processes"
            record.tell(what, 0, len(near))
            self._time(near, PROCESSES)
            record.tell(what, len(near), len(near))
        return self.failed

    def _probe(self, objective: str, chosen: Sequence[Trial]) -> None:
        """Measures something besides time, and stores each number at once."""
        from nas.evaluate.timing import PROBES

        record, earlier = self.record, self._earlier(objective)
        waiting = [t for t in chosen if t.number not in earlier]
        what = f"{objective} on {record.device.name}"
        for done, trial in enumerate(waiting):
            record.tell(what, done, len(waiting))
            builds: dict[int, str] = {}
            try:
                file, builds[trial.number] = record.file(trial)
                probe = PROBES[objective]
                value = probe(file, record.device, record.lease, record.work, basis=record.basis)
            except NasError as error:
                value = str(error)
            record.note({trial.number: value}, self.where, builds)
            if isinstance(value, str):
                self.failed[trial.number] = value
        record.tell(what, len(waiting), len(waiting))

    def _near(self) -> list[Trial]:
        """Those who may be on the front there and were not yet timed in several processes."""
        record = self.record
        there = moved(record.spec, record.trials, record.device.name)
        here = [t for t in record.trials if t.number in self.known]
        rows = shippable(known_rows(there, here, seed_deviation(record.trials)))
        _, shares = standings(there, rows)
        return [
            t
            for (t, _), share in zip(rows, shares, strict=True)
            if share >= NEAR and self.known[t.number] < PROCESSES
        ]

    def _time(self, batch: Sequence[Trial], processes: int) -> None:
        """Times a batch in turn, under the lease, and stores what came of it."""
        record, found = self.record, dict[int, Measurement | str]()
        files, builds = {}, {}
        for trial in batch:
            try:
                files[trial.number], builds[trial.number] = record.file(trial)
            except NasError as error:
                found[trial.number] = str(error)
        if files:
            found |= dict(zip(files, self._timings(list(files.values()), processes), strict=True))
        record.note(found, self.where, builds, processes)
        for number, value in found.items():
            if isinstance(value, str):
                self.failed[number] = value
                self.known.pop(number, None)
            else:
                self.known[number] = processes

    def _timings(self, paths: Sequence[Path], processes: int) -> Sequence[Measurement | str]:
        """The latency of each file: all in turn, or with callers at once each by itself."""
        from nas.hardware.streams import timings

        r = self.record
        return timings(paths, r.device, r.lease, r.work, processes, basis=r.basis)


def _under_what(record: Record) -> str:
    """The device, and the workload where it is not the usual one."""
    under = "" if record.work == WORK else f" under {record.work.name}"
    return f"on {record.device.name}{under}"
