"""A search and its database: each decision is one transaction, stored before it is acted on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.front import Front, front_of
from nas.core.job import (
    Build,
    Decision,
    Done,
    Finish,
    Job,
    Measure,
    Outcome,
    Train,
    Wait,
    Workload,
)
from nas.core.measurement import Measurement
from nas.core.packed import InOrder
from nas.core.study import StudySpec
from nas.core.trial import Evaluation, Timing, Trial
from nas.engine import Search
from nas.store.artifacts import Artifacts
from nas.store.store import Store

SPARE = 2  # trials under way beside those that workers are busy with
MANY = 2000  # trials from which on a search is not shown after every change


@dataclass(frozen=True)
class Bench:
    """Where and how latencies are measured; results are shared only where all three agree."""

    host: str
    runtime: str
    protocol: str

    def filed(self, objective: str) -> str:
        """What a measurement is filed under; timings by their protocol alone."""
        return self.protocol if objective == "latency_ms" else f"{objective} {self.protocol}"


@dataclass(frozen=True)
class Snapshot:
    """A search as it stands, for whoever watches it."""

    spec: StudySpec
    trials: Sequence[Trial]
    phase: str
    jobs: Sequence[str] = field(default_factory=tuple)

    @property
    def front(self) -> Front:
        """The front so far, worked out when asked for."""
        return front_of(self.spec, self.trials)


Watch = Callable[[Snapshot], None]


class Session:
    """`Search` with a memory; the only place where the two meet.

    Args:
        search: takes the decisions.
        store: keeps them, for the writer of this `epoch`.
        artifacts: where the files that evaluations name lie.
        benches: where latencies are measured, by device; not those that are predicted. What an
            outcome says of its own is what it is stored under.
        watch: called after every change.
    """

    def __init__(
        self,
        search: Search,
        store: Store,
        epoch: int,
        artifacts: Artifacts,
        benches: Mapping[str, Bench] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.search = search
        self.spec = search.spec
        self._store = store
        self._epoch = epoch
        self._artifacts = artifacts
        self._benches = benches or {}
        self.watch = watch
        self._jobs: dict[str, str] = {}
        self._shown = -math.inf

    def ask(self) -> Job | Wait | Done:
        """The next job that nobody has done before, in this study or another."""
        while True:
            job = self.search.ask()
            self._commit()
            if isinstance(job, Wait):
                return job
            if isinstance(job, Done):
                self.keep_front()
                self._changed(last=True)
                return job
            if self.spec.fresh or not self._reuse(job):
                self._jobs[_name(job)] = _name(job)
                self._changed()
                return job

    def report(self, job: Train | Finish, rung: int, values: Mapping[str, Any]) -> Decision:
        """Takes in a rung; says whether the training goes on."""
        assert isinstance(job, Train), "no search asks for trainings to their end"
        decision = self.search.report(job, rung, values)
        epochs = self.spec.fidelity.rungs[rung]
        brought = [self._evaluation(job, epochs, {"rung": dict(values)})]
        if shared := self._training(job):
            data = self.spec.recipe_digest, self.spec.task.digest
            brought.append(Evaluation(*shared, *data, epochs, job.seed, {"rung": dict(values)}))
        self._commit(evaluations=brought)
        return decision

    def tell(self, job: Job, outcome: Outcome) -> None:
        """Takes in what became of a job.

        Raises:
            NasError: where no job can be done any more (a full disk); the job is not recorded, and
                is asked for again when the study is resumed.
        """
        if outcome.halt is not None:
            raise NasError(
                f"the search cannot go on: {outcome.halt}",
                f"mend it, then type nas search --resume --study {self.spec.name}",
            )
        self._jobs.pop(_name(job), None)
        self.search.tell(job, outcome)
        evaluations, timings = [], []
        if outcome.error is None and isinstance(job, Train) and outcome.values:
            final = {"final": dict(outcome.values)}
            evaluations.append(self._evaluation(job, self.spec.fidelity.epochs, final))
        if isinstance(job, Measure):
            timings = self._timings(job, outcome)
        self._commit(evaluations, timings)

    def release(self, job: Job) -> None:
        """Takes a job back undone, as where its machine went away; it is asked for again."""
        self._jobs.pop(_name(job), None)
        self.search.release(job)
        self._changed()

    def close(self) -> None:
        """Lets no further trial begin; those under way are finished."""
        self.search.closing = True

    def widen(self, workers: int) -> None:
        """Lets as many trials be under way as so many workers need; no decision rests on it."""
        self.search.width = workers + SPARE

    def keep_front(self) -> None:
        """Stores the front of what is recorded."""
        self._store.save_front(self.spec.name, self._epoch, self.front())

    def front(self) -> Front:
        """The front of what is recorded."""
        first = self.search.trials.get(0)
        return front_of(self.spec, self.search.contenders, tally=self.search.tally, first=first)

    # -- results of the past

    def _reuse(self, job: Job) -> bool:
        """Answers a job from the database; says whether nothing is left to do of it."""
        match job:
            case Build():
                return False
            case Measure():
                return self._reuse_timings(job)
            case Train():
                return self._reuse_training(job)
            case Finish():
                return False  # no search asks for one

    def _reuse_training(self, job: Train) -> bool:
        """Replays stored rungs as far as they and their files reach."""
        rungs = self.spec.fidelity.rungs
        for rung in range(job.from_rung + 1, len(rungs)):
            found = self._stored(job, rungs[rung]) or self._same_training(job, rungs[rung])
            values = (found or {}).get("rung")
            if values is None or not self._artifacts.holds(values.get("checkpoint")):
                break
            values = {**values, "reused": True}
            if self.search.report(job, rung, values) == "stop":
                self.search.tell(job, Outcome())
                self._commit()
                return True
        reached = any(r.repeat == job.repeat and r.rung == len(rungs) - 1
                      for r in self.search.trials[job.trial].rungs)  # fmt: skip
        final = (self._stored(job, rungs[-1]) or {}).get("final") if reached else None
        if final is not None and self._artifacts.holds(final["file"]):
            self.search.tell(job, Outcome(final))
            self._commit()
            return True
        return self._again(job)

    def _again(self, job: Train) -> bool:
        """Hands a partly answered job back, so that it is asked for anew from where it stands."""
        trial = self.search.trials[job.trial]
        reached = [r.rung for r in trial.rungs if r.repeat == job.repeat]
        if not reached or max(reached) <= job.from_rung:
            return False
        self.search.release(job)
        self._commit()
        return True

    def _stored(self, job: Train, epochs: int) -> Mapping[str, Any] | None:
        found = self._store.evaluation(
            job.architecture.key, job.build, self.spec.recipe_digest, self.spec.task.digest,
            epochs, job.seed,
        )  # fmt: skip
        return None if found is None else found.values

    def _training(self, job: Train) -> tuple[str, str] | None:
        """What a training is kept under beside its network, where it is also that of others.

        Those of this study alone: elsewhere a network of the same name may be another.
        """
        part = self.search.space.trained(job.architecture.choices)
        if dict(part) == dict(job.architecture.choices):
            return None
        return Architecture(job.architecture.space, part).key, f"training of {self.spec.name}"

    def _same_training(self, job: Train, epochs: int) -> Mapping[str, Any] | None:
        """What was kept of the training of a network that differs in what no training sees."""
        shared = self._training(job)
        if shared is None:
            return None
        data = self.spec.recipe_digest, self.spec.task.digest
        found = self._store.evaluation(*shared, *data, epochs, job.seed)
        return None if found is None else found.values

    def _reuse_timings(self, job: Measure) -> bool:
        """Answers the whole batch or none of it: what is compared is measured together.

        Builds name graphs at the task's own side: they say nothing of a file made for another.
        """
        bench = self._benches.get(job.device)
        if bench is None or job.workload.resolution is not None:
            return False
        protocol = bench.filed(job.objective)
        found = [
            self._store.timing(
                build, job.form, job.workload.name, bench.host, bench.runtime, protocol
            )
            for build in job.builds
        ]
        if any(f is None for f in found):
            return False
        values = {
            str(n): f.measurement.to_json()
            for n, f in zip(job.trials, found, strict=True)
            if f is not None
        }
        self.search.tell(job, Outcome({"measurements": values}))
        self._commit()
        return True

    # -- what is stored

    def _evaluation(self, job: Train, epochs: int, values: Mapping[str, Any]) -> Evaluation:
        last = epochs == self.spec.fidelity.epochs  # where a rung and the end are both kept
        earlier = (self._stored(job, epochs) or {}) if last else {}
        return Evaluation(
            job.architecture.key, job.build, self.spec.recipe_digest, self.spec.task.digest,
            epochs, job.seed, {**earlier, **values},
        )  # fmt: skip

    def _timings(self, job: Measure, outcome: Outcome) -> list[Timing]:
        told, timings = outcome.values.get("bench"), list[Timing]()
        bench = Bench(**told) if told else self._benches.get(job.device)
        if job.workload.resolution is not None:
            return timings
        for trial, build in zip(job.trials, job.builds, strict=True):
            value = outcome.values.get("measurements", {}).get(str(trial), {"error": ""})
            if bench is not None and value.get("source") == "measured":
                timings.append(
                    Timing(
                        build, job.form, job.workload.name, bench.host, bench.runtime,
                        bench.filed(job.objective), job.device, Measurement.from_json(value),
                    )
                )  # fmt: skip
        return timings

    def _commit(
        self, evaluations: Sequence[Evaluation] = (), timings: Sequence[Timing] = ()
    ) -> None:
        events = self.search.drain()
        if events or evaluations or timings:
            touched = sorted({e.trial for e in events if e.kind != "known"})
            trials = [self.search.trials[n] for n in touched]
            self._store.commit(
                self.spec.name, self._epoch, events, trials, evaluations, timings,
                self.search.drain_beaten(),
            )  # fmt: skip
            self._changed()

    def _changed(self, last: bool = False) -> None:
        """Shows how the search stands; a large one, which takes time to look at, now and then."""
        now = time.monotonic()
        if self.watch is None or not (last or now - self._shown >= self._pause_s):
            return
        self._shown = now
        trials = InOrder(self.search.trials)
        self.watch(Snapshot(self.spec, trials, self.search.phase, tuple(self._jobs.values())))

    @property
    def _pause_s(self) -> float:
        return 0.0 if len(self.search.trials) < MANY else 5e-5 * len(self.search.trials)


def _name(job: Job) -> str:
    """A job in a few words: `training 12`, `timing 3, 4, 5`."""
    match job:
        case Build():
            return f"building {job.trial}"
        case Train():
            return f"training {job.trial}" + (f", repeat {job.repeat}" if job.repeat else "")
        case Measure():
            verb = "timing" if job.objective == "latency_ms" else f"measuring {job.objective} of"
            under = "" if job.workload == Workload() else f" under {job.workload.name}"
            return f"{verb} {', '.join(map(str, job.trials))}{under}"
        case Finish():
            return f"finishing {job.trial}"
