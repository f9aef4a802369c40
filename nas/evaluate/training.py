"""The job that trains a candidate rung by rung and scores the file that ships."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nas.core.job import Outcome, Train
from nas.deploy import forms
from nas.evaluate.modules import changed, parity_of, prepared, unlike
from nas.evaluate.objectives import Candidate, finite, own_objectives
from nas.evaluate.place import Place, Report, stepping
from nas.training.mixing import brief_mixing
from nas.training.recipe import Recipe
from nas.training.scoring import of_file, score
from nas.training.tasks import load_task
from nas.training.train import RungReport, train
from nas.transforms.report import Report as Changes


def train_candidate(place: Place, job: Train, report: Report) -> Outcome:
    """Trains a candidate rung by rung, then scores its deployed, exported form.

    Where the checkpoint to go on from is lost or damaged, it is trained from the beginning; the
    rungs that it had reached before are not told again.
    """
    module, reports = prepared(place, job.architecture, job.seed)
    module.to(place.trainer)
    pipeline = place.pipeline(job.architecture)
    recipe = Recipe.from_json(pipeline.recipe(place.recipe.to_json()))
    goes_on = place.artifacts.sound(job.checkpoint)
    stopped = False

    def at_rung(reached: RungReport) -> bool:
        nonlocal stopped
        if reached.rung <= job.from_rung:
            return True
        values = {
            "epochs": reached.epochs,
            "score": finite(place.spec.task.score_name, reached.score),
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
        start=place.artifacts.path(job.checkpoint) if job.checkpoint and goes_on else None,
        from_rung=job.from_rung if goes_on else -1,
        to_rung=job.to_rung,
        on_rung=at_rung,
        step=stepping(place),
        additions=[*pipeline.during(module), *brief_mixing(recipe)],
    )
    return Outcome() if stopped else _shipped(place, job, module.cpu(), reports)


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
    parity = parity_of(place, deployed, written, device, run)
    if not parity.passed:
        return unlike(parity)
    if pipeline.writes:
        written, more = changed(place, job.architecture, written)
        reports, run = [*reports, *more], forms.open_file(written.path, device)
    if written.build != job.build:
        return Outcome(error="training changed the exported graph, not only its weights")

    found = score(of_file(run), place.task, step=stepping(place))
    reports += pipeline.judge(trained, place.task, lambda: place.task.batches("validation", 0))
    candidate = Candidate(job.architecture.choices, place.task, trained, written.path)
    costs = own_objectives(place, candidate, trained=True)
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
