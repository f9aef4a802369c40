"""The search as a state machine: no processes, no clock, no SQL.

Everything `Search` knows follows from its events. Live, `ask`, `report` and `tell` make events and
take them in; a resumed search takes in the stored ones, in order, and goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nas.confirmation import Confirmation, Slot, train_job
from nas.core import ledger
from nas.core.contenders import Contenders
from nas.core.front import STATES, standing_of
from nas.core.job import (
    Build,
    Decision,
    Done,
    Job,
    Measure,
    Outcome,
    Source,
    Train,
    Wait,
    Workload,
)
from nas.core.known import values_of, violations_of
from nas.core.limits import timing_of
from nas.core.line import Line
from nas.core.packed import Shelf
from nas.core.rungs import Rungs
from nas.core.space import Excluded, SearchSpace
from nas.core.study import StudySpec
from nas.core.trial import Event, History, Origin, Proposal, Trial
from nas.strategies.protocol import Strategy, resumes

ATTEMPTS = 2


class Search:
    """Decides what to do next; somebody else does it.

    Args:
        spec: the experiment.
        space: the spec's space, worked out for its task.
        strategy: who proposes.
        history: events of the past, in order.
        width: how many trials may be under way at once.
        earlier: what other studies brought (`known` events), taken in where the history is empty.
    """

    def __init__(
        self,
        spec: StudySpec,
        space: SearchSpace,
        strategy: Strategy,
        history: Iterable[Event] = (),
        width: int = 1,
        earlier: Iterable[Event] = (),
    ) -> None:
        self.spec = spec
        self.space = space
        self.strategy = strategy
        self.width = width
        self.closing = False
        self.history = History()
        self.trials: Shelf[Trial] = Shelf()
        self.counts: Counter[str] = Counter()
        self._busy: set[Slot] = set()
        self._fresh: list[Event] = []
        self._keys: dict[bytes, int] = {}
        self._twins: defaultdict[bytes, set[int]] = defaultdict(set)  # of those under way
        self._lines = {"build": Line(), "train": Line()}
        self._unmeasured: set[int] = set()  # built, under way, and not being measured
        self._building = 0
        self._rungs = Rungs(spec, resumes(strategy), self.history.resumed)
        self._contenders = Contenders()
        self._beaten: list[int] = []
        self._confirmation = Confirmation(spec)
        self._timings = spec.timings
        for event in history:
            self._take(event)
        if not self.history.events:
            for event in earlier:
                self._happened(event)

    # -- what a runner calls

    def ask(self) -> Job | Wait | Done:
        """The next job, `Wait` while all depends on jobs under way, `Done` at the end."""
        while True:
            job: Job | None = self._train_ready() or self._build_ready()
            if job is None and self._may_propose():
                self._propose()
                continue
            job = job or self._measure_ready()
            if job is None and not self.counts["running"]:
                job = self._confirmation.next(self._busy, self.closing)
            if job is None:
                return self._nothing()
            self._busy |= set(_slots(job))
            self._building += isinstance(job, Build)
            return job

    def report(self, job: Train, rung: int, values: Mapping[str, Any]) -> Decision:
        """Takes in a rung that a training reached; says whether it goes on."""
        trial = self.trials[job.trial]
        if trial.state != "running" and not job.repeat:
            return "stop"  # a twin's end was its own
        decision = self._rungs.decide(trial, job.repeat, rung, values)
        payload = {"job": "train", "repeat": job.repeat, "rung": rung, "decision": decision}
        self._happened(Event("reported", job.trial, payload | {"values": dict(values)}))
        if decision == "stop":
            self._tell(job.trial, "stopped")
        return decision

    def tell(self, job: Job, outcome: Outcome) -> None:
        """Takes in what became of a job."""
        self._let_go(job)
        match job:
            case Build():
                self._built(job, outcome)
            case Measure():
                self._measured(job, outcome)
            case Train():
                self._trained(job, outcome)
                self._confirmation.let_go(job.trial)

    def release(self, job: Job) -> None:
        """Takes a job back undone; it is asked for again, from where the trial now stands."""
        self._let_go(job)
        if isinstance(job, Train):
            self._confirmation.let_go(job.trial)

    def drain(self) -> list[Event]:
        """The events since the last call, to be stored."""
        events, self._fresh = self._fresh, []
        return events

    def drain_beaten(self) -> list[int]:
        """The trials that since the last call were found to be no contenders."""
        beaten, self._beaten = self._beaten, []
        return beaten

    @property
    def tally(self) -> dict[str, int]:
        """How many trials are in each state."""
        return {state: self.counts[state] for state in STATES}

    @property
    def contenders(self) -> list[Trial]:
        """The complete, feasible trials that may be on the front, each network once."""
        return [self.trials[n] for n in self._contenders.numbers]

    @property
    def phase(self) -> str:
        """`searching`, or `confirming` once every trial is decided."""
        wanted = len(self.trials) < self.spec.trials and not self.closing
        return "searching" if wanted or self.counts["running"] else "confirming"

    def retrace(self, event: Event) -> Event:
        """What this search would have recorded in this event's place; then takes the event in.

        Proposals, rung decisions and results follow from the events before them; what a job
        brought does not, and is returned as it is.
        """
        again = event
        if event.kind in ("proposed", "resumed"):
            again = self._next_proposal()
        elif event.kind == "told" and "reused" not in event.payload:
            trial = self.trials[event.trial]
            again = Event("told", event.trial, {**event.payload, **self._found(trial)})
        elif "decision" in event.payload:
            p = event.payload
            trial = self.trials[event.trial]
            decision = self._rungs.decide(trial, p["repeat"], p["rung"], p["values"])
            again = Event("reported", event.trial, {**p, "decision": decision})
        self._take(event)
        return again

    # -- what to do next

    def _may_propose(self) -> bool:
        room = self.counts["running"] < self.width
        return room and len(self.trials) < self.spec.trials and not self.closing

    def _nothing(self) -> Wait | Done:
        if self._busy:
            return Wait()
        return Done("closed early" if self.closing else f"{len(self.trials)} trials recorded")

    def _let_go(self, job: Job) -> None:
        """Nobody does the job any more; what its trials need next is asked for again."""
        self._building -= isinstance(job, Build) and ("build", job.trial, 0) in self._busy
        self._busy -= set(_slots(job))
        for number in job.trials if isinstance(job, Measure) else (job.trial,):
            self._line_up(self.trials[number])

    def _line_up(self, trial: Trial) -> None:
        """Puts a trial under way where those wait who need the same next."""
        number = trial.number
        self._unmeasured.discard(number)
        if trial.state != "running":
            return
        if trial.build is None:
            self._lines["build"].add(number)
        elif self._timed(trial):
            self._lines["train"].add(number)
        elif ("measure", number, 0) not in self._busy:
            self._unmeasured.add(number)

    def _first(self, kind: str, needs: Callable[[Trial], bool]) -> Trial | None:
        """The first in a line that is still under way, that nobody serves and that `needs` it."""
        line = self._lines[kind]
        while line:
            trial = self.trials[line.pop()]
            served = (kind, trial.number, 0) in self._busy
            if trial.state == "running" and not served and needs(trial):
                return trial
        return None

    def _build_ready(self) -> Build | None:
        trial = self._first("build", lambda t: t.build is None)
        return None if trial is None else Build(trial.number, trial.architecture)

    def _measure_ready(self) -> Measure | None:
        """All trials that wait to be timed on a device in one batch, once no build is under way."""
        if self._building or not self._unmeasured:
            return None
        free = [self.trials[n] for n in sorted(self._unmeasured)]
        for device, work in self._timings:
            ready = [t for t in free if not _known(t, device, work)]
            if ready:
                return self._measuring(_untrained(ready, device, work))
        for objective in self.spec.probes:
            ready = [t for t in free if not self._probed(t, objective)]
            if ready:
                return self._measuring(_untrained(ready, self.spec.device, Workload(), objective))
        return None

    def _measuring(self, job: Measure) -> Measure:
        self._unmeasured -= set(job.trials)
        return job

    def _probed(self, trial: Trial, objective: str) -> bool:
        return timing_of(trial, self.spec.device, ("untrained",), objective) is not None

    def _train_ready(self) -> Train | None:
        if not self.spec.trains:
            return None
        trial = self._first("train", lambda t: t.build is not None and self._timed(t))
        return None if trial is None else train_job(self.spec, trial, repeat=0)

    def _timed(self, trial: Trial) -> bool:
        """Whether everything that is measured of an untrained form is known."""
        timed = all(_known(trial, device, work) for device, work in self._timings)
        return timed and all(self._probed(trial, name) for name in self.spec.probes)

    def _propose(self) -> None:
        event = self._next_proposal()
        self._happened(event)
        if event.kind == "proposed":
            trial = self.trials[event.trial]
            excluded = self.space.excluded(trial.architecture.choices)
            if excluded:
                return self._tell(trial.number, "failed", str(excluded))
            self._settle_twins(trial)

    def _next_proposal(self) -> Event:
        number, proposal = len(self.trials), self._next_network()
        if proposal.resumes is not None:
            return Event("resumed", proposal.resumes, {})
        payload = {
            "architecture": proposal.architecture.to_json(),
            "origin": proposal.origin,
            "notes": dict(proposal.notes),
        }
        return Event("proposed", number, payload)

    def _next_network(self) -> Proposal:
        """What is tried next; what excludes itself is a trial too, which fails with the reason."""
        number, presets, starts = len(self.trials), self.spec.presets, self.spec.starts
        origin: Origin = "strategy"
        try:
            if number < len(presets):
                origin = "preset"
                return Proposal(self.space.preset(presets[number]), {}, origin)
            if number < len(presets) + len(starts):
                start = starts[number - len(presets)]
                origin = start.origin
                return Proposal(self.space.architecture(start.choices), {}, origin)
            [proposal] = self.strategy.propose(self.history, 1)
            return proposal
        except Excluded as excluded:
            if excluded.architecture is None:
                raise
            return Proposal(excluded.architecture, {}, origin)

    # -- taking outcomes in

    def _built(self, job: Build, outcome: Outcome) -> None:
        if outcome.error is not None:
            return self._failed(job.trial, "build", outcome.error)
        self._happened(Event("reported", job.trial, {"job": "build", **outcome.values}))
        self._settle(job.trial)

    def _measured(self, job: Measure, outcome: Outcome) -> None:
        found = outcome.values.get("measurements", {})
        for trial in job.trials:
            value = found.get(str(trial), {"error": outcome.error or "not measured"})
            if "error" in value:
                self._failed(trial, "measure", value["error"])
                continue
            payload = {
                "job": "measure",
                "form": job.form,
                "device": job.device,
                "workload": job.workload.name,
                "measurement": value,
            }
            self._happened(Event("reported", trial, payload))
            self._settle(trial)

    def _trained(self, job: Train, outcome: Outcome) -> None:
        stopped = not outcome.values and outcome.error is None  # and may be resumed by now
        if stopped or self.trials[job.trial].state == "stopped":
            return
        if outcome.error is not None:
            return self._failed(job.trial, "train", outcome.error, job.repeat)
        payload = {"job": "train", "repeat": job.repeat, "trained": dict(outcome.values)}
        self._happened(Event("reported", job.trial, payload))
        self._settle(job.trial)

    def _failed(self, trial: int, kind: str, error: str, repeat: int = 0) -> None:
        """Records a failure; the second one of a trial's own ends it."""
        self._happened(Event("reported", trial, {"job": kind, "repeat": repeat, "error": error}))
        found = self.trials[trial]
        if found.state == "running" and found.attempts >= ATTEMPTS:
            self._tell(trial, "failed", error)

    def _settle(self, number: int) -> None:
        """Ends a trial that breaks a constraint or has all it needs."""
        trial = self.trials[number]
        if trial.state != "running":
            return
        if any(excess > 0 for excess in violations_of(self.spec, trial).values()):
            self._tell(number, "infeasible")
        elif trial.build and self._timed(trial) and (trial.trained or not self.spec.trains):
            self._tell(number, "complete")

    def _tell(self, number: int, state: str, error: str | None = None) -> None:
        trial = self.trials[number]
        payload = {
            "state": state,
            **self._found(trial),
            "error": error,
        }
        self._happened(Event("told", number, payload))
        self._settle_twins(trial)

    def _found(self, trial: Trial) -> dict[str, Any]:
        """What the end of a trial says of its numbers."""
        values, excesses = values_of(self.spec, trial), violations_of(self.spec, trial)
        return {"values": values, "violations": excesses}

    def _settle_twins(self, trial: Trial) -> None:
        """Gives trials of the same network the result of the first, without work."""
        alike = self._twins.get(_name(trial), ())
        first = self.trials[self._keys[_name(trial)]]
        if first.state == "running" or not alike:
            return
        result = self.history.results[first.number].payload
        for number in sorted(alike):
            payload = {**result, "reused": f"trial {first.number}"}
            self._happened(Event("told", number, payload))

    # -- the reducer

    def _happened(self, event: Event) -> None:
        self._fresh.append(event)
        self._take(event)

    def _take(self, event: Event) -> None:
        self.history.append(event)
        if event.kind == "known":
            return
        before = self.trials.get(event.trial)
        first = {}
        if before is not None and event.payload.get("reused"):
            first = {before.key: self._keys[_name(before)]}
        trial = ledger.after(event, self.trials, first)
        self.trials[event.trial] = trial
        if event.kind == "reported":
            self._rungs.take(trial, event.payload)
        self._moved(trial, None if before is None else before.state)

    def _moved(self, trial: Trial, before: str | None) -> None:
        """Files a trial where its state says."""
        if trial.state != before:
            name = _name(trial)
            self.counts[trial.state] += 1
            if before is None:
                self._keys.setdefault(name, trial.number)
            else:
                self.counts[before] -= 1
            if trial.state == "running":
                self._twins[name].add(trial.number)
            else:
                self._twins[name].discard(trial.number)
                if not self._twins[name]:
                    del self._twins[name]
                self._compete(trial)
        self._line_up(trial)
        if trial.number in self._contenders:
            self._confirmation.take(trial)
        elif trial.state != "running":
            self.trials.put_away(trial.number)

    def _compete(self, trial: Trial) -> None:
        """A complete trial may be on the front, until too many beat it."""
        if trial.state != "complete" or not trial.feasible or trial.reused:
            return
        out = self._contenders.add(trial.number, standing_of(self.spec, trial))
        self._beaten += out
        for number in out:
            self._confirmation.drop(number)
            self.trials.put_away(number)


def _name(trial: Trial) -> bytes:
    """A trial's network in 16 bytes: a search may propose millions."""
    return bytes.fromhex(trial.key)


def _known(trial: Trial, device: str, work: Workload) -> bool:
    """Whether a trial's untrained form was timed there, under that workload."""
    return timing_of(trial, device, ("untrained",), workload=work.name) is not None


def _untrained(
    trials: Sequence[Trial], device: str, work: Workload, objective: str = "latency_ms"
) -> Measure:
    """Measures the untrained forms of trials in one batch."""
    return Measure(
        trials=tuple(t.number for t in trials),
        form="untrained",
        files=tuple(t.file or "" for t in trials),
        builds=tuple(t.build or "" for t in trials),
        device=device,
        workload=work,
        objective=objective,
        sources=tuple(Source(t.architecture) for t in trials) if work.resolution else (),
    )


def _slots(job: Job) -> list[Slot]:
    """What a job keeps busy: its kind, trial and repeat."""
    if isinstance(job, Measure):
        return [("measure", n, 0) for n in job.trials]
    return [(job.kind, job.trial, job.repeat if isinstance(job, Train) else 0)]
