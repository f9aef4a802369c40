"""Where the jobs of a study are done: its task, its space, its devices, its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.expansion import expansions
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.target import Target
from nas.core.task import Task
from nas.hardware.capabilities import kernels
from nas.hardware.device import Device, attached, named
from nas.hardware.lease import Lease
from nas.hardware.ssh import remote
from nas.store.artifacts import Artifacts
from nas.training.checkpoint import load_weights
from nas.training.recipe import Recipe
from nas.training.tasks import examples, load_task
from nas.transforms.adapt.seen import look
from nas.transforms.stages import Given, Pipeline

Report = Callable[[int, Mapping[str, Any]], str]
Step = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Place:
    """Where jobs of a study are done: its spec, its artifacts, its locks.

    `stands` says of devices how they stand to this process (`Device.stands`), where not as usual;
    `train_on` where candidates are trained, `cpu` or `cuda`, by default on a GPU that torch sees;
    `shapes` that candidates are only counted here.
    """

    spec: StudySpec
    artifacts: Artifacts
    locks: Path
    beat: Callable[[], None] = field(default=lambda: None)
    stands: Mapping[str, str] = field(default_factory=dict)
    train_on: str | None = None
    shapes: bool = False

    @cached_property
    def trainer(self) -> torch.device:
        """Where candidates are trained. Raises: NasError for a GPU that torch does not see."""
        seen = torch.cuda.is_available()
        if self.train_on == "cuda" and not seen:
            raise NasError(
                f"a job was given a GPU, but torch {torch.__version__} sees none here",
                "install a torch for CUDA there, or leave gpu out of --resources",
            )
        return torch.device(self.train_on or ("cuda" if seen else "cpu"))

    @cached_property
    def task(self) -> Task:
        """The task, its data loaded once a process."""
        return load_task(self.spec.task.source, self.recipe)

    @cached_property
    def recipe(self) -> Recipe:
        """How candidates are trained."""
        return Recipe.from_json(self.spec.recipe)

    @cached_property
    def space(self) -> SearchSpace:
        """The space, worked out for the task."""
        return load_space(self.spec.space, self.spec.network).at(self.spec.task)

    def pipeline(self, architecture: Architecture) -> Pipeline:
        """What an architecture's axes do, with the task's first training examples to look at."""
        transforms = self.space.transforms(architecture.choices, self.spec.task)
        given = Given(
            self.task, partial(examples, self.task), self.spec.seed,
            pretrained=self.spec.weights is not None,
            reference=lambda: _reference(self, architecture), kernels=kernels(self.device()),
            batch=_batch(self.spec), grown=lambda: _grown(self, architecture),
            shapes=self.shapes,
        )  # fmt: skip
        return Pipeline(transforms, given)

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What a training step shares with no measurement: the processor, and what the study times.

        Other hosts keep leases of their own.
        """
        here = [self.device(d) for d in self.spec.devices if not remote(d)]
        seats = {"cpu", *(d.seat for d in here if attached(d))}
        return tuple(Lease(self.locks, seat) for seat in sorted(seats))

    def device(self, name: str | None = None) -> Device:
        """One of the study's devices, its own by default, under the runtime the study names."""
        name = name or self.spec.device
        found = named(name).under(self.spec.runtime_on(name))
        return replace(found, stands=self.stands.get(name))

    def scratch(self, name: str) -> Path:
        """A path for a file under way."""
        return self.artifacts.scratch() / name


def built(place: Place, architecture: Architecture, seed: int) -> nn.Module:
    """What the space builds, before its axes touch it."""
    torch.manual_seed(seed)
    module: nn.Module = place.space.build(architecture.choices, place.spec.task)
    if place.spec.weights is not None:
        shape = place.spec.task.input
        load_weights(Path(place.spec.weights), module, head=lambda: look(module, shape).head)
    return module


def _reference(place: Place, architecture: Architecture) -> nn.Module:
    """`_built` under the study's own seed, without a trace in what is drawn afterwards."""
    with torch.random.fork_rng():
        return built(place, architecture, place.spec.seed)


def _batch(spec: StudySpec) -> int | None:
    """The most examples that a study times in one call; None where bytes count too."""
    if Target(wanted=spec.wanted).saves_bytes:
        return None
    return max((work.batch for _, work in spec.timings), default=1)


def _grown(place: Place, architecture: Architecture) -> dict[str, Callable[[], nn.Module]]:
    """Networks of the space that are one step larger than this one, by what makes them so."""
    found = expansions(place.space, architecture.choices)
    return {
        name: partial(place.space.build, choices, place.spec.task)
        for name, choices in found.items()
    }


def stepping(place: Place) -> Step:
    """Wraps a training step: it says that the worker lives and waits for measurements."""
    leases = place.leases

    @contextmanager
    def step() -> Iterator[None]:
        place.beat()
        with ExitStack() as held:
            for lease in leases:
                held.enter_context(lease.training())
            yield

    return step
