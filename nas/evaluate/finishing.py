"""The job that trains a chosen candidate to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.catalog import import_object
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.job import Finish, Outcome
from nas.core.study import StudySpec
from nas.core.task import Task
from nas.deploy import forms
from nas.deploy.parity import validation_inputs
from nas.evaluate.modules import changed, deployed_of, module_of, parity_of, retrained, unlike
from nas.evaluate.place import Place, Report, stepping
from nas.training.checkpoint import load_weights, restore, save_weights
from nas.training.finish import finish, quicker
from nas.training.recipe import LONG_PRECISIONS, Strong
from nas.training.scoring import of_file, score
from nas.training.tasks import load_task
from nas.training.train import RungReport
from nas.transforms.stages import Addition


def finish_candidate(place: Place, job: Finish, report: Report) -> Outcome:
    """Trains a chosen candidate to its end, then scores its deployed, exported form on all splits.

    What transforms decide in the course of a training was decided in the search's: theirs is over.
    """
    began, recipe, step = time.perf_counter(), Strong.from_json(job.recipe), stepping(place)
    task = load_task(place.spec.task.source, recipe.plain)
    module = module_of(place, job.architecture, place.spec.seed)
    restore(place.artifacts.path(job.weights), module)
    module.to(place.trainer)
    additions = [settled(a) for a in place.pipeline(job.architecture).during(module)]
    stem = place.artifacts.folder / "unfinished" / job.kept
    stem.parent.mkdir(parents=True, exist_ok=True)
    if recipe.precision == "auto":  # decided once: what is under way goes on as it began
        begun = [p for p in LONG_PRECISIONS if _under(stem, p).exists()]
        recipe = replace(recipe, precision=begun[0] if begun else quicker(module, task, step))
        restore(place.artifacts.path(job.weights), module)
    kept = _under(stem, recipe.precision)

    def reached(epoch: RungReport) -> None:
        report(epoch.rung, {"epochs": epoch.epochs, "score": epoch.score, "n": epoch.n})

    teacher = teacher_of(place, job.teacher).to(place.trainer) if job.teacher else None
    trained = finish(
        module, task, recipe, place.spec.seed, kept=kept, teacher=teacher, on_epoch=reached,
        step=step, additions=additions,
    ).cpu()  # fmt: skip
    shipped = _shipped(place, job, trained, task)
    if shipped.error is not None:
        return shipped
    weights = save_weights(place.scratch(f"{job.trial}-finished.safetensors"), trained)
    outcome = {
        "weights": place.artifacts.put(weights),
        **shipped.values,
        "recipe": recipe.to_json(),
        "began": job.weights,
        "teacher": job.teacher["name"] if job.teacher else None,
        "seconds": round(time.perf_counter() - began, 1),
    }
    kept.unlink(missing_ok=True)
    return Outcome(outcome)


def _shipped(place: Place, job: Finish, trained: nn.Module, task: Task) -> Outcome:
    """Exports the trained candidate and scores the file on all splits."""
    device, step, stem = place.device(), stepping(place), place.scratch(f"{job.trial}-finished")
    deployed = deployed_of(place, job.architecture, trained)
    written = retrained(place, job.architecture, deployed, stem, device)
    run = forms.open_file(written.path, device)
    parity = parity_of(place, deployed, written, device, run)
    if not parity.passed:
        return unlike(parity)
    if place.pipeline(job.architecture).writes:
        written, _ = changed(place, job.architecture, written)
        run = forms.open_file(written.path, device)
    predict = of_file(run)
    found = score(predict, task, step=step)
    return Outcome(
        {
            "file": place.artifacts.put(written.path),
            "build": written.build,
            "score": found["search"].to_json(),
            "confirm": found["confirm"].to_json(),
            "test": score(predict, task, ("all",), "test", step)["all"].to_json(),
        }
    )


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
