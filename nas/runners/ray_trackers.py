"""Who else is told of every result: MLflow, TensorBoard, Weights & Biases, by Ray Tune's callbacks.

They only look on. What goes wrong with one of them is said once, and it is left alone for a while:
a server that does not answer would else hold up the search at every result.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune.logger import TBXLoggerCallback

from nas.core.errors import NasError

TRACKERS = ("mlflow", "tensorboard", "wandb")
DRAWN = Path("studies") / "tune"  # where files for these go, a folder for each study
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
LEFT_ALONE_S = 60.0  # after an error
_BEGINNINGS = ("setup", "on_trial_start")
_ENDS = ("on_trial_complete", "on_trial_error")
_HOOKS = (*_BEGINNINGS, "on_trial_result", *_ENDS, "on_experiment_end")
_KEY = "WANDB_API_KEY"
_log = logging.getLogger(__name__)


def tracker(name: str, study: str) -> Any:
    """One of `TRACKERS` as a callback of Tune's.

    Raises: NasError with the package that it needs, or how to log in.
    """
    try:
        return _harmless(name, _tracker(name, study))
    except ImportError as error:
        package = "tensorboardX" if name == "tensorboard" else name
        raise NasError(f"--callback {name}: {error}", f"pip install {package}") from None


def _tracker(name: str, study: str) -> Any:
    if name == "mlflow":
        import mlflow  # noqa: F401 - the callback itself only says so when it is first called
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        for variable, value in PATIENCE.items():  # its own are minutes
            os.environ.setdefault(variable, value)
        return MLflowLoggerCallback(experiment_name=study)
    return _wandb(study) if name == "wandb" else Draws((DRAWN / study).absolute())


def _wandb(study: str) -> Any:
    """Ray's callback, unless it would hand on a key in what Ray writes to its logs."""
    import wandb  # noqa: F401 - the callback itself only says so when it is first called
    from ray.air.integrations.wandb import WandbLoggerCallback

    # its actor would write into Tune's folder, which is temporary
    folder = (DRAWN / study).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE")  # a cluster that runs already does not know it
    callback = WandbLoggerCallback(
        project=study, dir=str(folder), **({"mode": mode} if mode else {})
    )
    try:
        callback.setup()  # looks for a login, as it does again when the search begins
    except ValueError:
        raise NasError(
            "--callback wandb: nobody is logged in to Weights & Biases here",
            "type  wandb login  once, or keep the runs on this machine: export WANDB_MODE=offline",
        ) from None
    if os.environ.get(_KEY):
        raise NasError(
            f"--callback wandb: Ray would write {_KEY} to its logs",
            f"type  wandb login  once (not needed with WANDB_MODE=offline), then  unset {_KEY}",
        )
    return callback


class Draws(TBXLoggerCallback):  # type: ignore[misc]
    """Event files for TensorBoard, a folder for each job, where they stay.

    Ray's own callback writes them to a temporary folder, which only a search that ends by itself
    copies to its place.
    """

    _summary_writer_cls: Any

    def __init__(self, folder: Path) -> None:
        super().__init__()
        opened = self._summary_writer_cls

        def writer(path: str, **given: Any) -> Any:
            return opened(str(folder / Path(path).name), **{**given, "flush_secs": 1})

        self._summary_writer_cls = writer


def _harmless(name: str, callback: Any) -> Any:
    """The callback with its hooks so that the first error of any is said, and none is raised."""
    told = _Told(name, {hook: getattr(callback, hook) for hook in _HOOKS})
    for hook in _HOOKS:
        setattr(callback, hook, partial(told.of, hook))
    return callback


class _Told:
    """What a tracker is told of, and what it must hear first when it is asked again.

    After an error no hook is called for `LEFT_ALONE_S`. A tracker that was not set up, or does not
    know that a trial began, takes nothing more of it: that is made up for before anything else.
    """

    def __init__(self, name: str, hooks: Mapping[str, Callable[..., None]]) -> None:
        self._name = name
        self._hooks = hooks
        self._missed: dict[Any, Callable[[], None]] = {}  # by trial; the setup is nobody's
        self._failed: float | None = None

    def of(self, hook: str, *given: Any, **named: Any) -> None:
        """Of one thing, unless it was left alone."""
        about, tell = named.get("trial"), partial(self._hooks[hook], *given, **named)
        if hook in _BEGINNINGS:
            self._missed[about] = tell
        if self._failed is None or time.monotonic() >= self._failed + LEFT_ALONE_S:
            try:
                self._make_up(about)
                if hook not in _BEGINNINGS:
                    tell()
            except Exception as error:
                self._say(error)
        if hook in _ENDS:
            self._missed.pop(about, None)

    def _make_up(self, about: Any) -> None:
        for whose in dict.fromkeys((None, about)):
            if whose in self._missed:
                self._missed[whose]()
                del self._missed[whose]

    def _say(self, error: Exception) -> None:
        if self._failed is None:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            _log.warning("--callback %s: %s\n  the search goes on", self._name, why)
        self._failed = time.monotonic()
