"""A search on a Ray cluster: Tune places and retries the work, the session decides.

Tune's searcher and scheduler here are adapters: `suggest` is `ask`, `on_trial_result` is `report`,
and both are called in the process of the search. So the same history gives the same decisions as
with any other runner, and nothing that Tune remembers is ever relied on.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from nas.core.errors import unknown
from nas.core.job import Done, Finish, Job, Measure, Outcome, Train, Wait, job_to_json
from nas.hardware.agent.workplace import workplace
from nas.runners.processes import SILENCE_S
from nas.runners.ray import LOST, Cluster, described
from nas.runners.ray_lease import Leases
from nas.runners.ray_trackers import TRACKERS, tracker
from nas.runners.ray_words import cause_of, of_the_cluster
from nas.runners.ray_work import Work
from nas.session import Session

FOLLOW_S = 5.0  # between two looks at how many jobs fit on the cluster
# Tune's own records and messages: the study database is the record, and nas says what goes on
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000", "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1", "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # how many there are is the driver's to say
}  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """How a search uses a cluster.

    Args:
        resources: what one job takes, by Ray's names: `{"CPU": 1, "GPU": 0.25}`.
        at_once: jobs under way at most; as many as fit on the nodes that are there at the moment
            where None. More than fit tell an autoscaler what is wanted.
        callbacks: who else is told of every result, by name (`nas.runners.ray_trackers`).
        silence_s: a worker that says nothing for so long is taken for hung and ended.
    """

    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1.0})
    at_once: int | None = None
    callbacks: Sequence[str] = ()
    silence_s: float = SILENCE_S

    def __post_init__(self) -> None:
        for name in self.callbacks:
            if name not in TRACKERS:
                raise unknown("callback", name, TRACKERS)

    @property
    def shares(self) -> dict[str, Any]:
        """What a worker does with the resources of its job."""
        threads = max(1, int(self.resources.get("CPU", 1)))
        return {"threads": threads, "train_on": "cuda" if self.resources.get("GPU") else "cpu"}

    def room(self, cluster: Cluster) -> int:
        """How many jobs may be under way, as the cluster is now."""
        return self.at_once or max(1, cluster.slots(self.resources))


class _Ended(BaseException):
    """Carries what ended the search past Tune, which would take an `Exception` for its trial's."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause


class Ray:
    """Runs a session's jobs on a cluster.

    Args:
        cluster: joined, for as long as the search runs.
        setup: what workers are given (`nas.runners.ray_work.Hands`).
        leases: who measures, and where.
        terms: how the cluster is used.
    """

    def __init__(
        self, cluster: Cluster, setup: Mapping[str, Any], leases: Leases, terms: Terms
    ) -> None:
        self.terms = terms
        self._cluster = cluster
        own = {"resources": dict(terms.resources), "silence_s": terms.silence_s}
        self._setup = {**setup, **terms.shares, **own}
        self._leases = leases

    @property
    def workers(self) -> int:
        """How many jobs may be under way now."""
        return self.terms.room(self._cluster)

    def run(self, session: Session) -> Done:
        """Runs to the end; an interrupt is acted on between two decisions, a second one at once."""
        self._warn()
        driver = Driver(session, self._leases, lambda: self.workers)
        with _told_of_interrupts(driver), workplace("tune") as folder:
            tuner = self._tuner(driver, session.spec.name, folder)
            with _environment(_QUIET):
                try:
                    tuner.fit()
                except _Ended as ended:
                    raise ended.cause from None
                finally:
                    self._leases.end()
        if driver.done is None:
            raise KeyboardInterrupt  # Tune was told to end by a signal of its own
        return driver.done

    def _warn(self) -> None:
        """Says that jobs wait for a node of another kind; it may come, so they do wait."""
        wanted = self.terms.resources
        if offered := self._cluster.lacking(wanted):
            _log.warning(
                "no node of the cluster has what one job takes (%s): jobs wait until one comes\n"
                "  --resources takes what nodes offer, at most now: %s",
                described(wanted), offered,
            )  # fmt: skip

    def _tuner(self, driver: Driver, study: str, folder: Path) -> tune.Tuner:
        for name in ("ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        work = tune.with_parameters(Work, setup=self._setup)
        bundle = tune.PlacementGroupFactory([dict(self.terms.resources)])
        return tune.Tuner(
            tune.with_resources(work, bundle),
            tune_config=tune.TuneConfig(
                search_alg=Asks(driver),
                scheduler=Decides(driver),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_named,
                trial_dirname_creator=_named,
            ),
            run_config=tune.RunConfig(
                name=study,
                storage_path=str(folder),
                verbose=0,
                callbacks=[Attends(driver), *(tracker(n, study) for n in self.terms.callbacks)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )


class Driver:
    """What Tune's parts share: the session, and which of its jobs is which trial of Tune's.

    Args:
        session: decides.
        leases: who measures.
        room: how many jobs Tune may have under way; asked now and then, as nodes come and go.
    """

    def __init__(self, session: Session, leases: Leases, room: Callable[[], int]) -> None:
        self.session = session
        self.leases = leases
        self._ask_room, self.room, self._looked = room, room(), time.monotonic()
        self.done: Done | None = None
        self.interrupted = False
        self._jobs: dict[str, Job] = {}
        self._lost: Counter[str] = Counter()
        self._errors: dict[str, tuple[str, bool]] = {}

    def next(self, name: str) -> dict[str, Any] | None:
        """The next job for a worker, as JSON; None while there is none or no room for it."""
        while self.done is None:
            self.attend()
            self._look_for_room()
            if len(self._jobs) >= self.room:
                return None
            job = self.session.ask()
            if isinstance(job, Measure):
                self.leases.begin(job)
            elif isinstance(job, Done):
                self.done = job
            elif isinstance(job, Wait):
                if self._jobs or not self.leases.under_way:
                    return None
                self.leases.wait()  # nothing else is under way
            else:
                self._jobs[name] = job
                return job_to_json(job)
        return None

    def attend(self) -> None:
        """Takes in what was measured meanwhile; the place where an interrupt is acted on."""
        if self.interrupted:
            raise KeyboardInterrupt
        for job, outcome in self.leases.collect():
            self.session.tell(job, outcome)

    def _look_for_room(self) -> None:
        """Follows a cluster that grows or shrinks."""
        if time.monotonic() - self._looked < FOLLOW_S:
            return
        room, self._looked = self._ask_room(), time.monotonic()
        if room != self.room:
            self.room = room
            self.session.widen(room)

    def reached(self, name: str, message: Mapping[str, Any]) -> bool:
        """Takes in a rung; whether the training goes on."""
        job = self._jobs[name]
        if not isinstance(job, Train | Finish) or "rung" not in message:
            return True
        return self.session.report(job, message["rung"], message["values"]) == "continue"

    def failed(self, name: str, words: str, idle: bool = False) -> None:
        """Remembers what Ray said when it lost a trial of Tune's.

        Args:
            idle: its actor was one that had been idle, and may have been gone before.
        """
        self._errors[name] = words, idle

    def ended(self, name: str, message: Mapping[str, Any] | None) -> None:
        """Takes in the end of a job: its outcome, a stop at a rung, or a loss (None)."""
        job = self._jobs.pop(name)
        if message is not None:
            self.session.tell(job, Outcome.from_json(message.get("outcome", {})))
            return
        words, idle = self._errors.pop(name, ("", False))
        self._lost[f"{job}"] += not idle  # each of those is found to be gone only once
        if of_the_cluster(words) and self._lost[f"{job}"] < LOST:
            self.session.release(job)  # no fault of the candidate's
        else:
            self.session.tell(job, Outcome(error=cause_of(words)))


class Asks(Searcher):  # type: ignore[misc]
    """`suggest` is `ask`, and the end of a trial of Tune's is the outcome of a job."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job as a trial's configuration."""
        with _past_tune():
            job = self._driver.next(trial_id)
            return Searcher.FINISHED if self._driver.done else job

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells what became of a job."""
        with _past_tune():
            lost = error or not result or "message" not in result
            self._driver.ended(trial_id, None if lost or not result else _read(result))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the study database is the memory."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Decides(FIFOScheduler):  # type: ignore[misc]
    """`on_trial_result` is `report`."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver
        self._kept = 0

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Keeps as many idle actors as there is room for.

        By itself Tune ends all but one that no job waits for, and with each a worker process and
        the torch that it has loaded: whenever a search waits for measurements.
        """
        super().on_trial_add(tune_controller, trial)
        more = self._driver.room - self._kept
        cache: Any = getattr(tune_controller, "_actor_cache", None)  # Tune's own
        if more and hasattr(cache, "increase_max"):
            cache.increase_max(trial.placement_group_factory, more)
            self._kept += more

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a training goes on after a rung."""
        with _past_tune():
            goes_on = self._driver.reached(trial.trial_id, _read(result))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keeps the reason for the searcher, which is told only that there was an error."""
        words = Path(trial.error_file).read_text() if trial.error_file else ""
        idle = trial in getattr(tune_controller, "_resetting_trials", ())
        self._driver.failed(trial.trial_id, words, idle)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Attends(tune.Callback):  # type: ignore[misc]
    """Looks after measurements and interrupts in every step of Tune's loop."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called several times a second."""
        with _past_tune():
            self._driver.attend()

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _read(result: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(result["message"])
    return message


def _named(trial: Any) -> str:
    """A trial of Tune's: the study's trial, what is done with it, and Tune's own number."""
    job = trial.config
    return f"{job['trial']:06d}-{job['kind']}-{trial.trial_id}"


@contextmanager
def _past_tune() -> Iterator[None]:
    try:
        yield
    except _Ended:
        raise
    except BaseException as cause:
        raise _Ended(cause) from cause


@contextmanager
def _told_of_interrupts(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C waits for the decision under way; another one does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        driver.interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
