"""The work a search asks for, and what comes back: plain data that crosses processes as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nas.core.architecture import Architecture
from nas.core.errors import NasError

Form = Literal["untrained", "trained"]
Decision = Literal["continue", "stop"]


@dataclass(frozen=True)
class Workload:
    """What a latency is of: examples in one call, and the input's side if not the task's own.

    `streams` is how many callers there are at once, each with a call under way at all times.
    """

    batch: int = 1
    resolution: int | None = None
    streams: int = 1

    @property
    def name(self) -> str:
        """`b1`, `b8r224` or `b1s4`: how records, tables and constraints name it.

        >>> Workload(8, 224).name, Workload(streams=4).name
        ('b8r224', 'b1s4')
        """
        side = f"r{self.resolution}" if self.resolution else ""
        return f"b{self.batch}{side}" + (f"s{self.streams}" if self.streams > 1 else "")

    @classmethod
    def parse(cls, text: str) -> tuple[Workload, ...]:
        """The workloads a person typed, `b1-8` being each of 1, 2, 4 and 8 examples in a call.

        Raises: NasError where they are none.

        >>> [w.name for w in Workload.parse("b1-4s2")], Workload.parse("r64")[0].name
        (['b1s2', 'b2s2', 'b4s2'], 'b1r64')
        """
        found = _WORKLOAD.fullmatch(text.replace(":", ""))
        if found is None or not text:
            raise NasError(f"not a workload: {text!r}", "write b8, b1-8, r64, b1s4 or b4r64s2")
        low, high = int(found["batch"] or 1), int(found["most"] or found["batch"] or 1)
        side = int(found["side"]) if found["side"] else None
        sizes = [low << n for n in range((high // low).bit_length())]
        if not sizes:
            raise NasError(f"no batch sizes in {text!r}", "name the smaller one first: b1-8")
        return tuple(cls(size, side, int(found["streams"] or 1)) for size in sizes)


_WORKLOAD = re.compile(
    r"(?:b(?P<batch>[1-9]\d*)(?:-(?P<most>[1-9]\d*))?)?(?:r(?P<side>[1-9]\d*))?"
    r"(?:s(?P<streams>[1-9]\d*))?"
)


@dataclass(frozen=True)
class Build:
    """Build a trial's candidate, count it, and export its untrained deployed form.

    Outcome values: `build` (digest of the exported graph), `file` (artifact), `costs` (objective ->
    number), `uncounted` (operators no count covers), `reports` (of each transform: what it
    touched, skipped and why); where the study asks for them `proxies` (name
    -> number) and `undefined` (name -> why it has none).
    """

    trial: int
    architecture: Architecture
    kind: Literal["build"] = "build"


@dataclass(frozen=True)
class Source:
    """What a network's file is made of again: its choices, and the artifact of its weights.

    Without `weights` it is the untrained one.
    """

    architecture: Architecture
    weights: str | None = None


@dataclass(frozen=True)
class Measure:
    """Time a batch of exported files on a device, interleaved; or probe each by itself.

    `objective` is what is measured. Where the workload has a side of its own, the files timed are
    made for it from `sources`, one of each trial. Outcome values: `measurements`, trial number (as
    text) -> the JSON of a `Measurement` of it, or `{"error": reason}`; where nodes share the work
    `bench`, the host, runtime and protocol that they were taken with.
    """

    trials: tuple[int, ...]
    form: Form
    files: tuple[str, ...]
    builds: tuple[str, ...]
    device: str
    workload: Workload = field(default_factory=Workload)
    processes: int = 1
    objective: str = "latency_ms"
    sources: tuple[Source, ...] = ()
    kind: Literal["measure"] = "measure"


@dataclass(frozen=True)
class Train:
    """Train a trial's candidate from one rung to another, reporting at each.

    `repeat` 0 is the search's own training; later ones are repeats for the confirmation phase.
    `checkpoint` is the artifact that `from_rung` left behind; from_rung -1 starts from nothing.
    `file` is the artifact of the untrained form: the trained one is the same graph.
    Each report carries `score`, `n`, `epochs`, `checkpoint` (all on the search's own validation
    images). Outcome values: `file` (the trained, deployed, exported artifact), `score` and
    `confirm` (`{"score", "se", "n"}` each, of that file), `costs` (objectives that need training),
    `reports` (of each transform of the trained network).
    """

    trial: int
    architecture: Architecture
    build: str
    file: str
    seed: int
    repeat: int
    from_rung: int
    to_rung: int
    checkpoint: str | None = None
    kind: Literal["train"] = "train"


@dataclass(frozen=True)
class Finish:
    """Train a chosen trial to its end from the artifact `weights`, with the strong `recipe`.

    `teacher` is what it learns from: `{"study", "trial", "weights"}` of this database, or
    `{"network", "weights"}` of the user's own, and `name`. What is under way is kept under the name
    `kept`, from where a worker goes on. Each report, at an epoch, carries `score`, `n`, `epochs`.
    Outcome values: those of `nas.core.finished.Finished`.
    """

    trial: int
    architecture: Architecture
    weights: str
    recipe: Mapping[str, Any]
    kept: str
    teacher: Mapping[str, Any] | None = None
    kind: Literal["finish"] = "finish"


Job = Build | Measure | Train | Finish


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its values, or the reason why there are none.

    `halt` is a reason that is not the candidate's: no job can be done until a person mends it.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    halt: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes."""
        return asdict(self) | {"values": dict(self.values)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True)
class Wait:
    """Nothing to do until a job that is under way reports."""


@dataclass(frozen=True)
class Done:
    """The search is over."""

    reason: str


def job_to_json(job: Job) -> dict[str, Any]:
    """A job as plain data."""
    if isinstance(job, Measure):
        lists = {k: list(getattr(job, k)) for k in ("trials", "files", "builds")}
        sources = [{**vars(s), "architecture": s.architecture.to_json()} for s in job.sources]
        return {**vars(job), **lists, "workload": asdict(job.workload), "sources": sources}
    return {**vars(job), "architecture": job.architecture.to_json()}


def job_from_json(data: Mapping[str, Any]) -> Job:
    """The job that `job_to_json` wrote."""
    fields = dict(data)
    match fields["kind"]:
        case "build":
            return Build(
                **{**fields, "architecture": Architecture.from_json(fields["architecture"])}
            )
        case "train":
            return Train(
                **{**fields, "architecture": Architecture.from_json(fields["architecture"])}
            )
        case "finish":
            return Finish(
                **{**fields, "architecture": Architecture.from_json(fields["architecture"])}
            )
        case _:
            lists = {k: tuple(fields[k]) for k in ("trials", "files", "builds")}
            lists["sources"] = tuple(
                Source(Architecture.from_json(s["architecture"]), s["weights"])
                for s in fields.get("sources", ())
            )
            return Measure(**{**fields, **lists, "workload": Workload(**fields["workload"])})
