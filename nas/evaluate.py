"""The work itself, one function for each kind of job: JSON in, JSON out.

Runs in whatever process a runner chooses. Nothing is remembered between calls but what is slow to
make again: the task's data and the space.
"""

from __future__ import annotations

import errno
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.catalog import import_object, load_objective, load_space
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.expansion import expansions
from nas.core.job import Build, Finish, Job, Measure, Outcome, Source, Train, job_from_json
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN, STATIC
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import Task
from nas.deploy import forms
from nas.deploy.parity import check, validation_inputs
from nas.hardware.capabilities import kernels
from nas.hardware.counting import count
from nas.hardware.device import Device, attached, engine_of, named
from nas.hardware.energy import energy
from nas.hardware.footprint import peak_memory
from nas.hardware.lease import Lease
from nas.hardware.memory import peak_activation_bytes
from nas.hardware.prediction.predict import predict
from nas.hardware.ssh import Unreachable, remote
from nas.hardware.streams import timings
from nas.store.artifacts import Artifacts
from nas.training.checkpoint import load_weights, restore, save_weights
from nas.training.finish import finish, quicker
from nas.training.mixing import brief_mixing
from nas.training.proxies import proxies
from nas.training.recipe import PRECISIONS, Recipe, Strong
from nas.training.scoring import score
from nas.training.tasks import examples, load_task
from nas.training.train import RungReport, train
from nas.transforms.adapt.seen import look
from nas.transforms.adapt.stored import task_bytes
from nas.transforms.quantize.learned import rounds
from nas.transforms.report import Report as Changes
from nas.transforms.stages import Addition, Given, Pipeline

FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)  # no candidate's fault
COMPARED = 64  # validation examples on which a file must agree with its network
PROBES: dict[str, Callable[..., Measurement | str]] = {
    "peak_memory_mb": peak_memory,
    "energy_mj": energy,
}
Report = Callable[[int, Mapping[str, Any]], str]
Step = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Candidate:
    """What a user's objective is given; what it does not need may be None."""

    choices: Mapping[str, Any]
    task: Task
    module: nn.Module | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Place:
    """Where jobs of a study are done: its spec, its artifacts, its locks.

    `stands` says of devices how they stand to this process (`Device.stands`), where not as usual.
    """

    spec: StudySpec
    artifacts: Artifacts
    locks: Path
    beat: Callable[[], None] = field(default=lambda: None)
    stands: Mapping[str, str] = field(default_factory=dict)

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
            grown=lambda: _grown(self, architecture),
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


def _grown(place: Place, architecture: Architecture) -> dict[str, Callable[[], nn.Module]]:
    """Networks of the space that are one step larger than this one, by what makes them so."""
    found = expansions(place.space, architecture.choices)
    return {
        name: partial(place.space.build, choices, place.spec.task)
        for name, choices in found.items()
    }


def perform(place: Place, job: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Does a job; whatever goes wrong becomes an outcome with its reason."""
    started = time.perf_counter()
    try:
        outcome = _work(place, job_from_json(job), report)
    except Exception as error:
        root = error.__cause__ or error
        fatal = isinstance(root, Unreachable) or (isinstance(root, OSError) and root.errno in FATAL)
        outcome = Outcome(halt=_reason(error)) if fatal else Outcome(error=_reason(error))
    return replace(outcome, seconds=time.perf_counter() - started).to_json()


def _work(place: Place, job: Job, report: Report) -> Outcome:
    match job:
        case Build():
            return build(place, job)
        case Measure():
            return time_files(place, job)
        case Train():
            return train_candidate(place, job, report)
        case Finish():
            return finish_candidate(place, job, report)


def build(place: Place, job: Build) -> Outcome:
    """Builds, folds, counts and exports an untrained candidate."""
    module, reports = _prepared(place, job.architecture, place.spec.seed)
    shape, stem = place.spec.task.input, place.scratch(str(job.trial))
    deployed, done = place.pipeline(job.architecture).deploy(module, shape)
    written, changed = _written(place, job.architecture, deployed, stem, place.device())
    counts = count(deployed, shape)
    costs: dict[str, float] = {
        "params": counts.params,
        "macs": counts.macs,
        "activations": counts.activations,
        "trainable_params": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "task_mb": task_bytes(module) / 1e6,
        "peak_memory_mb": peak_activation_bytes(deployed, shape) / 1e6,
        "size_mb": written.bytes / 1e6,
    }
    candidate = Candidate(job.architecture.choices, place.task, module, written.path)
    costs |= _own_objectives(place, candidate, trained=False)
    return Outcome(
        {
            "build": written.build,
            "file": place.artifacts.put(written.path),
            "costs": costs,
            "uncounted": sorted(counts.uncounted),
            "reports": [r.to_json() for r in (*reports, *done, *changed)],
            **_proxies(place, module),
        }
    )


def _proxies(place: Place, module: nn.Module) -> dict[str, Any]:
    """What untrained networks tell, where the study asks for it and trains."""
    if not (place.spec.proxies and place.spec.trains):
        return {}
    found = proxies(module, place.task, place.spec.seed)
    return {"proxies": found.values, "undefined": found.undefined}


def time_files(place: Place, job: Measure) -> Outcome:
    """Times a batch of files on the device, in fresh processes that hold its lease.

    Latencies on a device that is not here are predicted, and say so. What is measured besides time
    is measured of each file by itself.
    """
    device = place.device(job.device)
    named_files = zip(job.trials, job.files, strict=True)
    files = {trial: place.artifacts.path(file) for trial, file in named_files}
    found: dict[int, Measurement | str] = {}
    for trial, source in zip(job.trials, job.sources, strict=False):
        place.beat()  # building one may take a while
        try:
            files[trial] = _of_side(place, trial, source, device, job.workload.resolution or 0)
        except NasError as error:
            found[trial] = str(error)
    files = {trial: file for trial, file in files.items() if trial not in found}
    if not attached(device) and job.objective in PROBES:
        why = f"{device.name} is not attached here, and {job.objective} is not predicted"
        found |= dict.fromkeys(files, why)
    elif not attached(device):
        found |= {trial: predict(file, device, job.workload) for trial, file in files.items()}
    elif files:
        numbers = _measurements(place, job, device, list(files.values()))
        found |= dict(zip(files, numbers, strict=True))
    values = {
        str(trial): {"error": m} if isinstance(m := found[trial], str) else m.to_json()
        for trial in job.trials
    }
    return Outcome({"measurements": values})


def _measurements(
    place: Place, job: Measure, device: Device, files: Sequence[Path]
) -> list[Measurement | str]:
    """What a job asks of files on a device that is attached, or why there is none."""
    basis = "trained file" if job.form == "trained" else "untrained form"
    lease = Lease(place.locks, device.seat)
    if job.objective not in PROBES:
        return timings(files, device, lease, job.workload, job.processes, basis=basis)
    found = []
    for file in files:
        place.beat()  # each takes up to half a minute
        found.append(PROBES[job.objective](file, device, lease, job.workload, basis=basis))
    return found


def _of_side(place: Place, trial: int, source: Source, device: Device, side: int) -> Path:
    """The file of a network for square inputs of another side, made for timing."""
    module = module_of(place, source.architecture, place.spec.seed)
    if source.weights is not None:
        restore(place.artifacts.path(source.weights), module)
    return resize(place, source.architecture, module.eval(), device, side, f"trial {trial}").path


def resize(
    place: Place,
    architecture: Architecture,
    module: nn.Module,
    device: Device,
    side: int,
    name: str,
) -> forms.Deployed:
    """A candidate's file for square inputs of another side; its weights unchanged.

    `name` is what errors call it. Raises: NasError where the network takes no such inputs.
    """
    pipeline, shape = place.pipeline(architecture), (place.spec.task.input[0], side, side)
    if pipeline.writes:
        raise NasError(
            f"{name} is quantized with images of {place.spec.task.input[-1]} pixels a side, "
            f"and there are none of {side}",
            "time it at its own resolution",
        )
    try:
        deployed, _ = pipeline.deploy(module, shape)
        with torch.no_grad():
            deployed(torch.zeros(1, *shape))
        stem = place.scratch(f"r{side}-{architecture.key}")
        return forms.write(deployed, shape, stem, device)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:150]
        raise NasError(
            f"{name} takes no inputs of {side}x{side}: {said}", "leave :r out"
        ) from error


def train_candidate(place: Place, job: Train, report: Report) -> Outcome:
    """Trains a candidate rung by rung, then scores its deployed, exported form."""
    module, reports = _prepared(place, job.architecture, job.seed)
    pipeline = place.pipeline(job.architecture)
    recipe = Recipe.from_json(pipeline.recipe(place.recipe.to_json()))
    stopped = False

    def at_rung(reached: RungReport) -> bool:
        nonlocal stopped
        values = {
            "epochs": reached.epochs,
            "score": _finite(place.spec.task.score_name, reached.score),
            "n": reached.n,
            "checkpoint": place.artifacts.put(reached.checkpoint),
        }
        stopped = report(reached.rung, values) == "stop"
        return not stopped

    train(
        module,
        load_task(place.spec.task.source, recipe),
        recipe,
        place.spec.fidelity,
        job.seed,
        folder=place.artifacts.scratch(),
        start=place.artifacts.path(job.checkpoint) if job.checkpoint else None,
        from_rung=job.from_rung,
        to_rung=job.to_rung,
        on_rung=at_rung,
        step=_step(place),
        additions=[*pipeline.during(module), *brief_mixing(recipe)],
    )
    return Outcome() if stopped else _shipped(place, job, module, reports)


def _shipped(place: Place, job: Train, trained: nn.Module, prepared: Sequence[Changes]) -> Outcome:
    """Exports the trained candidate and scores the file in its runtime."""
    shape, device = place.spec.task.input, place.device()
    pipeline = place.pipeline(job.architecture)
    deployed, reports = pipeline.deploy(trained, shape)
    stem = place.scratch(f"{job.trial}-{job.repeat}")
    if pipeline.writes:  # the timed file is not the graph of the module
        written = forms.write(deployed, shape, stem, device)
    else:
        written = forms.rewrite(place.artifacts.path(job.file), deployed, shape, stem, device)
    run = forms.open_file(written.path, device)
    precision = "codes" if rounds(deployed) else engine_of(device).precision
    inputs = validation_inputs(place.task, COMPARED)
    parity = check(deployed, written.path, inputs, precision, run)
    if not parity.passed:
        return Outcome(
            error=f"the exported file differs from the trained network by {parity.relative:.2g} "
            f"of the largest output; {parity.threshold:.2g} is allowed"
        )
    if pipeline.writes:
        written = forms.changed(written, lambda path: reports.extend(pipeline.write(path)))
        run = forms.open_file(written.path, device)
    if written.build != job.build:
        return Outcome(error="training changed the exported graph, not only its weights")

    def predict(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(inputs.contiguous().numpy()))

    found = score(predict, place.task, step=_step(place))
    reports += pipeline.judge(trained, place.task, lambda: place.task.batches("validation", 0))
    candidate = Candidate(job.architecture.choices, place.task, trained, written.path)
    costs = _own_objectives(place, candidate, trained=True)
    return Outcome(
        {
            "file": place.artifacts.put(written.path),
            "score": found["search"].to_json(),
            "confirm": found["confirm"].to_json(),
            "costs": costs,
            "parity": parity.to_json(),
            "reports": [r.to_json() for r in (*prepared, *reports)],
        }
    )


def finish_candidate(place: Place, job: Finish, report: Report) -> Outcome:
    """Trains a chosen candidate to its end, then scores its deployed, exported form on all splits.

    What transforms decide in the course of a training was decided in the search's: theirs is over.
    """
    began, recipe, step = time.perf_counter(), Strong.from_json(job.recipe), _step(place)
    task = load_task(place.spec.task.source, recipe.plain)
    module = module_of(place, job.architecture, place.spec.seed)
    restore(place.artifacts.path(job.weights), module)
    additions = [settled(a) for a in place.pipeline(job.architecture).during(module)]
    stem = place.artifacts.folder / "unfinished" / job.kept
    stem.parent.mkdir(parents=True, exist_ok=True)
    if recipe.precision == "auto":  # decided once: what is under way goes on as it began
        begun = [p for p in PRECISIONS if _under(stem, p).exists()]
        recipe = replace(recipe, precision=begun[0] if begun else quicker(module, task, step))
        restore(place.artifacts.path(job.weights), module)
    kept = _under(stem, recipe.precision)

    def reached(epoch: RungReport) -> None:
        report(epoch.rung, {"epochs": epoch.epochs, "score": epoch.score, "n": epoch.n})

    teacher = teacher_of(place, job.teacher) if job.teacher else None
    trained = finish(
        module, task, recipe, place.spec.seed, kept=kept, teacher=teacher, on_epoch=reached,
        step=step, additions=additions,
    )  # fmt: skip
    device, made = place.device(), place.scratch(f"{job.trial}-finished")
    written = write_again(place, job.architecture, trained, made, device)
    run = forms.open_file(written.path, device)

    def predict(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(run(inputs.contiguous().numpy()))

    found = score(predict, task, step=step)
    test = score(predict, task, ("all",), "test", step)["all"]
    weights = save_weights(place.scratch(f"{job.trial}-finished.safetensors"), trained)
    outcome = {
        "weights": place.artifacts.put(weights),
        "file": place.artifacts.put(written.path),
        "build": written.build,
        "recipe": recipe.to_json(),
        "began": job.weights,
        "teacher": job.teacher["name"] if job.teacher else None,
        "score": found["search"].to_json(),
        "confirm": found["confirm"].to_json(),
        "test": test.to_json(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    kept.unlink(missing_ok=True)
    return Outcome(outcome)


def _under(stem: Path, precision: str) -> Path:
    """The checkpoint of a training under way in that precision."""
    return stem.with_name(f"{stem.name}-{precision}.safetensors")


def settled(addition: Addition) -> Addition:
    """What a transform adds to a training, told in every step that all of it is over."""
    after = addition.after
    return replace(addition, after=None if after is None else lambda over: after(1.0))


def teacher_of(place: Place, named: Mapping[str, Any]) -> nn.Module:
    """The deployed network that a `Finish` job names as its teacher, in evaluation.

    Raises: NasError where its weights do not fit it, or it answers other classes than the student.
    """
    if "network" in named:
        module = import_object(named["network"], "teacher")(place.spec.task)
        if named["weights"]:
            load_weights(Path(named["weights"]), module)
        teacher: nn.Module = module.eval()
    else:
        there = replace(place, spec=StudySpec.from_json(named["spec"]))
        architecture = Architecture.from_json(named["architecture"])
        module = module_of(there, architecture, there.spec.seed)
        restore(there.artifacts.path(named["weights"]), module)
        teacher = deployed_of(there, architecture, module.eval())
    with torch.no_grad():
        said = teacher(torch.from_numpy(validation_inputs(place.task, 2)))
    if tuple(said.shape) != (2, place.spec.task.outputs):
        raise NasError(
            f"the teacher {named['name']} answers {tuple(said.shape[1:])}, the student "
            f"{place.spec.task.outputs} classes",
            "name a teacher of the same data",
        )
    return teacher


def module_of(place: Place, architecture: Architecture, seed: int) -> nn.Module:
    """The candidate's module in its training form, initialised from the seed alone.

    A network of the user's starts from the study's weights, where it names any.
    """
    return _prepared(place, architecture, seed)[0]


def _prepared(
    place: Place, architecture: Architecture, seed: int
) -> tuple[nn.Module, list[Changes]]:
    """`module_of`, and what each axis says of it."""
    return place.pipeline(architecture).prepare(_built(place, architecture, seed))


def _built(place: Place, architecture: Architecture, seed: int) -> nn.Module:
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
        return _built(place, architecture, place.spec.seed)


def deployed_of(place: Place, architecture: Architecture, module: nn.Module) -> nn.Module:
    """A deployed copy of a candidate's module."""
    return place.pipeline(architecture).deploy(module, place.spec.task.input)[0]


def _written(
    place: Place, architecture: Architecture, deployed: nn.Module, stem: Path, device: Device
) -> tuple[forms.Deployed, list[Changes]]:
    """A deployed module's own file with what its axes do to files, and what they say of it."""
    plain = forms.write(deployed, place.spec.task.input, stem, device)
    pipeline, reports = place.pipeline(architecture), list[Changes]()
    if not pipeline.writes:
        return plain, reports
    return forms.changed(plain, lambda path: reports.extend(pipeline.write(path))), reports


def write_again(
    place: Place, architecture: Architecture, trained: nn.Module, stem: Path, device: Device
) -> forms.Deployed:
    """The file of a trained candidate for a device, as `_shipped` writes it: of the same bytes."""
    deployed = deployed_of(place, architecture, trained)
    if place.pipeline(architecture).writes:
        return _written(place, architecture, deployed, stem, device)[0]
    shape = place.spec.task.input
    untrained = module_of(place, architecture, place.spec.seed)
    first = forms.write(deployed_of(place, architecture, untrained), shape, stem, device)
    return forms.rewrite(first.path, deployed, shape, stem, device)


def _own_objectives(place: Place, candidate: Candidate, trained: bool) -> dict[str, float]:
    """The user's own objectives that can be known now."""
    values = {}
    for objective in place.spec.objectives:
        known = objective.name in BUILTIN or objective.name == place.spec.task.score_name
        if known or (objective.needs in STATIC) == trained:
            continue
        value = float(load_objective(objective.name)[1](candidate))
        values[objective.name] = _finite(objective.name, value)
    return values


def _finite(name: str, value: float) -> float:
    """A number that can be stored and ranked. Raises: NasError for any other."""
    if not math.isfinite(value):
        raise NasError(f"{name} is {value}", "it must be a finite number")
    return value


def _step(place: Place) -> Step:
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


def _reason(error: Exception) -> str:
    """An exception in one or two lines, with where it was raised."""
    if isinstance(error, NasError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    return f"{type(error).__name__}: {error} ({where})"
