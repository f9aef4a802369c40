"""What happened in a study: events in order, and the trials they add up to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nas.core.architecture import Architecture
from nas.core.measurement import Measurement
from nas.core.packed import Latest, Log

State = Literal["running", "complete", "stopped", "infeasible", "failed"]
Kind = Literal["known", "proposed", "reported", "told", "resumed"]
Origin = str  # strategy, preset, network, user, or `from STUDY trial N`


@dataclass(frozen=True)
class Event:
    """One thing that happened, in the order in which the search took it in.

    `payload` is JSON:

    - `known`: a result of another `study`, before everything else: its `trial` there, the
      `architecture`, `state`, `values`, `violations`, `rungs` (epochs, score) and `costs` as
      a build counts them; the event's own trial is a number below zero;
    - `proposed`: `architecture`, `origin`, `notes` (what the strategy must remember);
    - `reported`: `job` (build, measure, train, retarget, finish or gate) and what it brought:
      `build`, `file`, `costs`, `proxies`; `form`, `device`, `workload`, `measurement`, of a
      retarget also `processes` and `bench`; `repeat`, `rung`, `values`, `decision`; of a finish
      what `nas.core.finished` holds; of a gate `passed`, `limit`, `excess`, `reason`; or `error`;
    - `told`: `state`, `values` (objective -> number), `violations` (constraint -> relative excess,
      above 0 where broken), `error`;
    - `resumed`: nothing more; the stopped trial goes on from the last rung that it reached, and is
      told again.
    """

    kind: Kind
    trial: int
    payload: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The plain data that is stored."""
        return {"kind": self.kind, "trial": self.trial, "payload": dict(self.payload)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """The event that `to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True)
class Proposal:
    """What to try next, and what the strategy must be given back with the history.

    `resumes` is the number of a stopped trial that is to go on, of this architecture; None opens a
    new trial.
    """

    architecture: Architecture
    notes: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = "strategy"
    resumes: int | None = None


@dataclass(frozen=True)
class Rung:
    """A training that reached a rung: its score on the search's validation images."""

    repeat: int
    rung: int
    epochs: int
    score: float
    n: int
    checkpoint: str | None
    decision: str = "continue"
    reused: bool = False


@dataclass(frozen=True)
class Trained:
    """A training that reached the last rung, scored in its deployed form.

    `score`, `score_se`, `score_n` are of the search's validation images; `confirm*` of the third
    that the search never ranks on.
    """

    repeat: int
    file: str
    score: float
    score_se: float
    score_n: int
    confirm: float
    confirm_se: float
    confirm_n: int


@dataclass(frozen=True)
class Trial:
    """Everything recorded about one proposal; moves by `dataclasses.replace`."""

    number: int
    architecture: Architecture
    origin: Origin = "strategy"
    notes: Mapping[str, Any] = field(default_factory=dict)
    state: State = "running"
    build: str | None = None
    file: str | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    proxies: Mapping[str, float] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    trained: tuple[Trained, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 0
    error: str | None = None
    reused: str | None = None

    @property
    def key(self) -> str:
        """The content hash of the architecture."""
        return self.architecture.key

    @property
    def feasible(self) -> bool:
        """Whether no recorded constraint is broken."""
        return all(v <= 0 for v in self.violations.values())


@dataclass(frozen=True)
class Evaluation:
    """A training result that any study may use: same network, training, data, rung and seed.

    `rung` is the epochs trained; `values` is what the `Train` job reported there, and at full
    fidelity also what it returned.
    """

    key: str
    build: str
    recipe: str
    data: str
    rung: int
    seed: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Timing:
    """A measurement that any study may use: same graph, form, work, host, runtime, protocol."""

    build: str
    form: str
    workload: str
    host: str
    runtime: str
    protocol: str
    device: str
    measurement: Measurement


def measurement_name(objective: str, device: str, workload: str, form: str) -> str:
    """The name a trial keeps a measurement under: `latency_ms@cpu:b1/untrained`."""
    return f"{objective}@{device}:{workload}/{form}"


def placed(name: str) -> tuple[str, str | None, str]:
    """An objective's name apart: what, on which device, under which workload.

    >>> placed("latency_ms"), placed("latency_ms@a100:b8s2")
    (('latency_ms', None, 'b1'), ('latency_ms', 'a100', 'b8s2'))
    """
    what, _, rest = name.partition("@")
    device, _, workload = rest.rpartition(":")
    if device and _WORKLOAD.fullmatch(workload):
        return what, device, workload
    return what, rest or None, "b1"


_WORKLOAD = re.compile(r"b\d+(r\d+)?(s\d+)?")


def devices_of(trials: Iterable[Trial]) -> list[str]:
    """The devices that any of the trials has numbers for, in the order of the alphabet."""
    names = {name for trial in trials for name in trial.measurements}
    return sorted({name.partition("@")[2].rpartition(":")[0] for name in names})


def reports_of(events: Iterable[Event], key: str) -> list[dict[str, Any]]:
    """What each transform touched, skipped and why, of the network of this key.

    Of the first training where there is one, else of the untrained form; each transform's reports
    of all its stages, in the order in which they ran.
    """
    keys: dict[int, str] = {}
    built: list[dict[str, Any]] = []
    for event in events:
        if event.kind == "proposed":
            keys[event.trial] = Architecture.from_json(event.payload["architecture"]).key
        elif event.kind == "reported" and keys[event.trial] == key:
            brought = event.payload.get("trained", event.payload)
            found = list(brought.get("reports", ()))
            if found and "trained" in event.payload:
                return found
            built = built or found
    return built


class History:
    """The ordered events of a study; grows at the end only.

    A strategy may keep a cache of what it has read of `events`, since what it has read never
    changes. All but the latest lie compressed: what was read before is slow to read again.
    """

    def __init__(self, events: Iterable[Event] | None = None) -> None:
        self.events: Log[Event] = Log()
        self.proposals: Latest[Event] = Latest(self.events)
        self.results: Latest[Event] = Latest(self.events)
        self.resumed: set[int] = set()
        for event in events or []:
            self.append(event)

    def append(self, event: Event) -> None:
        """Adds the next event."""
        self.events.append(event)
        if event.kind == "proposed":
            self.proposals.mark(event.trial)
        elif event.kind == "told":
            self.results.mark(event.trial)
        elif event.kind == "resumed":
            self.results.forget(event.trial)
            self.resumed.add(event.trial)

    def __len__(self) -> int:
        return len(self.events)
