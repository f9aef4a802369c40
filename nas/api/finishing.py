"""`nas train`: chosen points of a study trained to their end, several at once, on any runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from nas.api.crew import crew
from nas.api.places import artifacts_of, storage_url
from nas.api.retargeting import claimed
from nas.api.study import chosen
from nas.core.architecture import digest
from nas.core.errors import NasError
from nas.core.finished import Finished, finished, on_test_images
from nas.core.job import Done, Finish, Outcome, Wait
from nas.core.study import StudySpec
from nas.core.trial import Event, Trial
from nas.session import Session
from nas.store.address import unlisted
from nas.store.artifacts import Artifacts
from nas.store.store import Store
from nas.training.published import published
from nas.training.recipe import Recipe, Strong, strong
from nas.training.tasks import is_function, prepare

EPOCHS = 30
ATTEMPTS = 2  # what was lost with its worker goes on from its last epoch, once
LOST = ("the worker ", "The actor ", "The node ")  # how runners say that a worker was lost


class Watcher(Protocol):
    """Whoever looks on while points are trained."""

    def on(self, what: str, done: int, total: int) -> None:
        """Called when `done` of `total` epochs of `what` are over."""
        ...


@dataclass
class Finishing:
    """The trainings asked for, as a runner takes them from a session; each end is stored at once.

    Args:
        spec: the study, claimed under `epoch`.
        waiting: what is still to be handed out.
        done: what was finished by this call. failed: trial -> why it was not.
    """

    spec: StudySpec
    store: Store
    epoch: int
    waiting: list[Finish]
    watch: Watcher | None = None
    done: dict[int, Finished] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    _under_way: dict[int, int] = field(default_factory=dict)  # trial -> attempts
    _tried: dict[int, int] = field(default_factory=dict)

    def ask(self) -> Finish | Wait | Done:
        """The next training."""
        if self.waiting:
            job = self.waiting.pop(0)
            self._under_way[job.trial] = self._tried.get(job.trial, 0) + 1
            return job
        return Wait() if self._under_way else Done("all are trained")

    def report(self, job: Finish, rung: int, values: Mapping[str, Any]) -> str:
        """Takes in the end of an epoch; all go on."""
        if self.watch is not None:
            self.watch.on(f"trial {job.trial}", int(values["epochs"]), int(job.recipe["epochs"]))
        return "continue"

    def release(self, job: Finish) -> None:
        """Takes a training back, as where its machine went away; it is handed out again."""
        self._under_way.pop(job.trial, None)
        self.waiting.append(job)

    def tell(self, job: Finish, outcome: Outcome) -> None:
        """Stores what a training brought. Raises: NasError where none can go on (a full disk)."""
        if outcome.halt is not None:
            raise NasError(f"training cannot go on: {outcome.halt}", "mend it; the same command "
                           "goes on from the last epoch")  # fmt: skip
        tries = self._tried[job.trial] = self._under_way.pop(job.trial)
        lost = outcome.error is not None and any(word in outcome.error for word in LOST)
        if lost and tries < ATTEMPTS:
            self.waiting.append(job)
            return
        if outcome.error is not None:
            self.failed[job.trial] = outcome.error
            payload: dict[str, Any] = {"error": outcome.error}
        else:
            payload = dict(outcome.values)
            self.done[job.trial] = Finished(job.trial, **payload)
        event = Event("reported", job.trial, {"job": "finish", **payload})
        self.store.commit(self.spec.name, self.epoch, [event])


def train(  # noqa: PLR0913 - one argument for each option of the command line
    study: str,
    trials: Sequence[int],
    *,
    epochs: int | None = None,
    recipe: str | None = None,
    teacher: str | None = None,
    teacher_weights: str | Path | None = None,
    precision: str = "auto",
    runner: str = "processes",
    workers: int | None = None,
    address: str | None = None,
    resources: Sequence[str] = (),
    take_over: bool = False,
    storage: str | None = None,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """Trains points of a study to their end, from the weights that the search left.

    Each result is stored beside the search's, which stays as it is: the front compares trainings of
    one length. `nas export` ships the finished weights from then on. What is interrupted goes on
    from its last epoch when the same call is made again, with the same bits.

    Args:
        study: its name. trials: the numbers of its trained trials, each once.
        epochs: passes over all training images; 30 by default, or what `recipe` says.
        recipe: a whole published recipe by its name (`nas.training.published`), instead of this
            program's own; what it says that there is none of here comes back as `absent`.
        teacher: what they learn from, `STUDY:TRIAL` of this database or a function `PKG.MOD:FN` of
            the task that returns a module. teacher_weights: that module's, a .safetensors file.
        precision: `float32`, `bfloat16`, or `auto`: the quicker on this machine.
        runner, workers: who does the work, and how many at once.
        address: of a Ray cluster. resources: what one training takes there, such as `gpu=1`.
        take_over: claims a study whose writer is thought dead.
        watch: told of every epoch.

    Raises:
        NasError: for a trial that was never trained, a teacher that does not fit, a study that
            another process writes, or where no training reached its end.
    """
    url = storage_url(storage)
    if runner == "ray":
        unlisted(url)
    with Store(url, make=False) as store, claimed(store, study, take_over) as epoch:
        spec, known = store.spec(study), store.trials(study)
        artifacts = artifacts_of(url, spec)
        prepare(spec.task.source)
        asked = {**_recipe(spec, recipe, epochs).to_json(), "precision": precision}
        learnt = _teacher(teacher, teacher_weights, store, spec, artifacts)
        jobs = [
            _job(spec, chosen(study, known, n), asked, learnt, artifacts)
            for n in dict.fromkeys(trials)
        ]
        session = Finishing(spec, store, epoch, jobs, watch)
        with crew(runner, min(len(jobs), workers or len(jobs)), address, resources) as hands:
            work, _ = hands.hired(spec, artifacts, {})
            work.run(cast(Session, session))
    if not session.done:
        reasons = "; ".join(f"trial {n}: {why}" for n, why in session.failed.items())
        raise NasError(f"nothing was trained to its end: {reasons}", f"see: nas show {study}")
    return {
        "study": study,
        "trained": [_row(session.done[n], known[n], spec) for n in sorted(session.done)],
        "failed": {str(n): why for n, why in session.failed.items()},
        **({"recipe": recipe, "absent": list(published(recipe).absent)} if recipe else {}),
    }


def _recipe(spec: StudySpec, name: str | None, epochs: int | None) -> Strong:
    """The recipe of this name, this program's own without one. Raises: NasError for no such."""
    own, brief = is_function(spec.task.source), Recipe.from_json(spec.recipe)
    if name is not None:
        return published(name).strong(brief, epochs, images=not own)
    return strong(spec.task.source, brief, epochs or EPOCHS, own)


def _job(
    spec: StudySpec, trial: Trial, recipe: Mapping[str, Any], teacher: Mapping[str, Any] | None,
    artifacts: Artifacts,
) -> Finish:  # fmt: skip
    """The training of a trial. Raises: NasError where it has no weights to go on from."""
    rungs = [r for r in trial.rungs if not r.repeat]
    last = max(rungs, key=lambda r: r.rung, default=None)
    if last is None or not artifacts.holds(last.checkpoint):
        said = trial.error or f"it is {trial.state}, and has no weights here"
        raise NasError(
            f"trial {trial.number} of {spec.name!r} cannot be trained on: {said}",
            f"choose a point: nas front {spec.name}",
        )
    weights = str(last.checkpoint)
    name = digest([spec.name, trial.number, spec.task.digest, spec.seed, weights, dict(recipe),
                   teacher and {k: v for k, v in teacher.items() if k != "spec"}])  # fmt: skip
    return Finish(
        trial.number, trial.architecture, weights, recipe, name, teacher
    )  # fmt: skip


def _teacher(
    named: str | None,
    weights: str | Path | None,
    store: Store,
    spec: StudySpec,
    artifacts: Artifacts,
) -> dict[str, Any] | None:
    """What a job says of the teacher. Raises: NasError where there is none such."""
    head, _, tail = (named or "").partition(":")
    if named is None or tail.isdigit():
        if weights is not None:
            raise NasError(
                "--teacher-weights are of a network of your own", "add --teacher PKG.MOD:FN"
            )
        return None if named is None else _stored(head, int(tail), store, spec, artifacts)
    if not is_function(named):
        raise NasError(f"not a teacher: {named!r}", "name it as STUDY:TRIAL or PKG.MOD:FN")
    if weights is not None and not Path(weights).is_file():
        raise NasError(f"no such file: {weights}", "name a .safetensors file")
    return {"name": named, "network": named,
            "weights": str(Path(weights).absolute()) if weights else None}  # fmt: skip


def _stored(
    study: str, number: int, store: Store, spec: StudySpec, artifacts: Artifacts
) -> dict[str, Any]:
    """A trial as a teacher, with its finished weights where it has any."""
    theirs = store.spec(study)
    trial = chosen(study, store.trials(study), number)
    if theirs.task.digest != spec.task.digest:
        raise NasError(
            f"{study}:{number} was trained on {theirs.task.source}, {spec.name!r} on "
            f"{spec.task.source}",
            "a teacher must know the very images and classes",
        )
    done = finished(store.events(study)).get(number)
    own = [r for r in trial.rungs if not r.repeat]
    last = max(own, key=lambda r: r.rung, default=None)
    weights = done.weights if done else last.checkpoint if last else None
    if not artifacts.holds(weights):
        raise NasError(f"{study}:{number} has no weights", f"choose one of: nas front {study}")
    return {"name": f"{study}:{number}", "spec": theirs.to_json(), "weights": weights,
            "architecture": trial.architecture.to_json()}  # fmt: skip


def _row(done: Finished, trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """What came of one training: the score before and after, with the interval of the latter."""
    test = on_test_images(done.test, spec)
    searched = trial.trained[0].confirm if trial.trained else None
    return {
        "trial": done.trial,
        "epochs": done.epochs,
        "precision": done.recipe["precision"],
        "teacher": done.teacher,
        "searched": searched,
        "confirmed": dict(done.confirm),
        "test": None if test is None else test.to_json(),
        "weights": done.weights,
        "file": done.file,
        "seconds": done.seconds,
    }
