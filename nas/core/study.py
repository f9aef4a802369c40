"""A whole experiment as data: a study can be run again from this row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.core.architecture import digest
from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.job import Workload
from nas.core.objective import TIMED, Constraint, Objective
from nas.core.task import TaskSpec

MOST = 2**31 - 1  # of trials, or hours: what every database counts
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True)
class Start:
    """A network tried before the strategy is asked; `origin` reads `from STUDY trial N`."""

    choices: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class StudySpec:
    """What is searched, on what, for what, with how much.

    Args:
        name: letters, digits and `._+-`; it names files, so nothing else.
        space: space and axes joined by `+`.
        task: the task as data.
        device: device profile that latencies are of.
        objectives: at least one.
        constraints: hard limits.
        strategy: who proposes. promotion: who goes on at a rung.
        trials: recorded trials of whatever outcome, over the study's life.
        hours: wall-clock limit of one run, or None.
        fidelity: the full training and its rungs.
        recipe: how a candidate is trained (`nas.training.recipe`), as JSON.
        confirm: share of `trials` that may be spent again on repeats of the front's members.
        seed: everything random comes from it.
        presets: names of presets tried before the strategy is asked.
        starts: networks of other studies' fronts, tried after them.
        network: `PKG.MOD:FN` of the user's own module, or None; it becomes trial 0.
        proxies: whether zero-cost proxies are computed of every network that is built.
        files: sha256 of each space, device and objective file used, by name.
        runtime: what runs the files on `device`, `NAME[:OPTION+OPTION]`; its profile's where None.
        probes: what is measured on `device` besides time: objectives and limits of this study.
        artifacts: folder or URL of the study's files, or None for the one beside the database.
    """

    name: str
    space: str
    task: TaskSpec
    device: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    strategy: str = "evolution"
    promotion: str = "halving"
    trials: int = 32
    hours: float | None = None
    fidelity: Fidelity = field(default_factory=lambda: Fidelity(epochs=9))
    recipe: Mapping[str, Any] = field(default_factory=dict)
    confirm: float = 0.2
    seed: int = 0
    presets: tuple[str, ...] = ()
    network: str | None = None
    weights: str | None = None
    fresh: bool = False
    proxies: bool = True
    starts: tuple[Start, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None
    probes: tuple[str, ...] = ()
    artifacts: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise NasError(
                f"not a study name: {self.name!r}",
                "use letters, digits and . _ + - , at most 64 of them",
            )
        if not 1 <= self.trials <= MOST:
            raise NasError(f"no search has {self.trials} trials", "type --trials 32")
        if self.hours is not None and not 0 < self.hours <= MOST:
            raise NasError(f"no search ends after {self.hours} hours", "type --hours 8")
        if not self.objectives:
            raise NasError("a search needs an objective", "type --objective accuracy")

    @property
    def measures(self) -> bool:
        """Whether candidates must be timed."""
        return bool(self.devices)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of all objectives and limits."""
        return tuple(o.name for o in self.objectives) + tuple(c.name for c in self.constraints)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where candidates are timed: the study's device, then those that constraints name.

        What is measured besides time is measured of timed candidates.
        """
        timed = [c for c in self.constraints if c.name in TIMED]
        own = any(o.name in TIMED for o in self.objectives)
        named = [self.device] if own or self.probes else []
        return tuple(dict.fromkeys(named + [c.device or self.device for c in timed]))

    @property
    def timings(self) -> tuple[tuple[str, Workload], ...]:
        """Where and under which workloads candidates are timed, the study's own device first.

        One example at a time is timed for the objectives, the rest for constraints.
        """
        timed = [c for c in self.constraints if c.name in TIMED]
        own = any(o.name in TIMED for o in self.objectives)
        asked = [(self.device, Workload())] if own or self.probes else []
        asked += [(c.device or self.device, work) for c in timed for work in c.workloads]
        places = self.devices
        return tuple(sorted(dict.fromkeys(asked), key=lambda a: places.index(a[0])))

    def runtime_on(self, device: str) -> str | None:
        """The runtime that the study names for a device; other devices keep their own."""
        return self.runtime if device == self.device else None

    @property
    def trains(self) -> bool:
        """Whether candidates must be trained."""
        named = {c.name for c in self.constraints}
        score = {self.task.score_name, "accuracy", "error"}
        return any(o.needs == "trained" for o in self.objectives) or bool(named & score)

    @property
    def recipe_digest(self) -> str:
        """Names the training: results are shared between studies only where it agrees."""
        shared = {"recipe": dict(self.recipe), "data": self.fidelity.data,
                  "rungs": list(self.fidelity.rungs)}  # fmt: skip
        return digest(shared)

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return plain | {
            "task": self.task.to_json(),
            "objectives": [o.to_json() for o in self.objectives],
            "probes": list(self.probes),
            "constraints": [str(c) for c in self.constraints],
            "fidelity": self.fidelity.to_json(),
            "recipe": dict(self.recipe),
            "presets": list(self.presets),
            "starts": [{"choices": dict(s.choices), "origin": s.origin} for s in self.starts],
            "files": dict(self.files),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudySpec:
        """The spec that `to_json` wrote."""
        return cls(
            **{
                **data,
                "task": TaskSpec.from_json(data["task"]),
                "objectives": tuple(Objective.from_json(o) for o in data["objectives"]),
                "probes": tuple(data.get("probes", ())),
                "constraints": tuple(Constraint.parse(c) for c in data["constraints"]),
                "fidelity": Fidelity.from_json(data["fidelity"]),
                "presets": tuple(data["presets"]),
                "starts": tuple(Start(**s) for s in data.get("starts", ())),
            }
        )
