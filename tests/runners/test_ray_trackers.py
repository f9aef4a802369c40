"""Trackers are told of every result, learn no secret, and cost the search nothing."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.air.integrations import mlflow as mlflow_of_ray
from ray.air.integrations import wandb as wandb_of_ray

from nas.core.errors import NasError
from nas.runners import ray_trackers
from nas.runners.ray_trackers import tracker

RESULT = {"score": 91.5, "training_iteration": 1, "message": "{}", "config": {"kernel": 3}}


class Module(ModuleType):
    """A package of a tracker's, as far as Ray's callbacks ask it who is logged in."""

    def __init__(self, name: str, key: str | None = None) -> None:
        super().__init__(name)
        self.api = SimpleNamespace(api_key=key)

    def ensure_configured(self) -> None:
        pass


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Module:
    """Weights & Biases, somebody logged in, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SETUP_API_KEY_HOOK"):
        monkeypatch.delenv(name, raising=False)
    found = Module("wandb", "of a login")
    monkeypatch.setitem(sys.modules, "wandb", found)
    monkeypatch.setattr(wandb_of_ray, "wandb", found)
    return found


class Trial:
    """A trial of Tune's."""

    def __init__(self, number: int, place: Path) -> None:
        self.trial_id = f"{number:06d}-train-x"
        self.config = {"kernel": 3}
        self.evaluated_params: dict[str, Any] = {}
        self.experiment_dir_name = "toy"
        self.local_path = str(place / self.trial_id)

    def __str__(self) -> str:
        return self.trial_id

    def init_local_path(self) -> None:
        pass


def tell(told: Any, about: Any, *hooks: str) -> None:
    given = {"iteration": 1, "trials": [about], "trial": about}
    for hook in hooks:
        more = {"result": RESULT} if hook == "on_trial_result" else {}
        getattr(told, hook)(**given, **more)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_one_without_its_package_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with pytest.raises(NasError, match=f"pip install {name}"):
        tracker(name, "study")


@pytest.mark.parametrize("mode", [None, "offline"])
def test_no_key_goes_to_rays_logs(
    wandb: Module, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    if mode:  # Ray hands the key on in that case, too
        monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(NasError, match="WANDB_API_KEY to its logs") as caught:
        tracker("wandb", "toy")
    assert "wandb login" in caught.value.hint and "hunter2" not in str(caught.value)


def test_nobody_logged_in_is_said_before_the_search(
    wandb: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.api.api_key = None
    with pytest.raises(NasError, match="nobody is logged in") as caught:
        tracker("wandb", "toy")
    assert "wandb login" in caught.value.hint
    monkeypatch.setenv("WANDB_MODE", "offline")
    kept = Path.cwd() / ray_trackers.DRAWN / "toy"  # Tune's own folder is a temporary one
    assert tracker("wandb", "toy").kwargs == {"mode": "offline", "dir": str(kept)}
    assert kept.is_dir()  # or it writes to another


def test_weights_and_biases_is_told_and_its_actor_given_no_variable(
    wandb: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, Any]] = []
    queued: list[Any] = []

    def remote(**options: Any) -> Any:
        given.append(options)
        run = SimpleNamespace(remote=object)
        return lambda actor: SimpleNamespace(remote=lambda **named: SimpleNamespace(run=run))

    fake = SimpleNamespace(
        remote=remote, wait=lambda futures, **how: ([], futures),
        is_initialized=lambda: False,  # asked by callbacks that are collected meanwhile
    )  # fmt: skip
    monkeypatch.setattr(wandb_of_ray, "ray", fake)
    monkeypatch.setattr(wandb_of_ray, "_force_on_current_node", dict)
    monkeypatch.setattr(wandb_of_ray, "Queue", lambda **how: SimpleNamespace(put=queued.append))
    monkeypatch.setattr(wandb_of_ray, "_clean_log", lambda values, **how: values)
    told = tracker("wandb", "toy")
    told.setup()
    tell(told, Trial(7, tmp_path), "on_trial_start", "on_trial_result", "on_trial_complete")
    assert [options["runtime_env"] for options in given] == [{"env_vars": {}}]
    assert [item for _, item in queued] == [RESULT, None] and told.project == "toy"


class Server:
    """MLflow's client as Ray uses it; it may be away."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.away = False
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            if self.away:
                self.refused += 1
                raise ConnectionError("no route to the server\nand a long trace")
            self.calls.append(name)
            return SimpleNamespace(info=SimpleNamespace(run_id="run"))

        return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setitem(sys.modules, "mlflow", Module("mlflow"))
    monkeypatch.setattr(mlflow_of_ray, "_MLflowLoggerUtil", lambda: found)
    return found


def test_mlflow_is_told_under_the_studys_name(server: Server, tmp_path: Path) -> None:
    told = tracker("mlflow", "toy")
    assert told.experiment_name == "toy"
    told.setup()
    about = Trial(1, tmp_path)
    tell(told, about, "on_trial_start", "on_trial_result", "on_trial_complete")
    assert server.calls[0] == "setup_mlflow" and server.calls[-1] == "end_run"
    assert {"start_run", "log_metrics"} <= set(server.calls)


def test_a_server_that_goes_away_is_said_once_and_asked_again_after_a_while(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(ray_trackers.time, "monotonic", lambda: now[0])
    told = tracker("mlflow", "toy")
    told.setup()
    server.away = True
    for number in range(3):
        tell(told, Trial(number, tmp_path), "on_trial_start", "on_trial_result")
    assert server.refused == 1  # each may take as long as it waits for an answer
    [said] = caplog.records
    assert said.getMessage() == ("--callback mlflow: no route to the server\n  the search goes on")
    assert said.levelno == logging.WARNING
    now[0] += ray_trackers.LEFT_ALONE_S
    tell(told, Trial(3, tmp_path), "on_trial_start")
    assert server.refused == 2 and len(caplog.records) == 1
    server.away = False
    now[0] += ray_trackers.LEFT_ALONE_S
    tell(told, Trial(4, tmp_path), "on_trial_start", "on_trial_result")
    assert server.calls[-1] == "log_metrics"


def test_a_server_away_at_the_start_is_set_up_later_and_told_of_what_still_runs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(ray_trackers.time, "monotonic", lambda: now[0])
    told, running, over = tracker("mlflow", "toy"), Trial(1, tmp_path), Trial(2, tmp_path)
    server.away = True
    told.setup()
    tell(told, running, "on_trial_start", "on_trial_result")
    tell(told, over, "on_trial_start", "on_trial_complete")
    server.away = False
    assert server.refused == 1 and not server.calls
    now[0] += ray_trackers.LEFT_ALONE_S
    tell(told, running, "on_trial_result", "on_trial_complete")
    assert server.calls == [
        "setup_mlflow", "start_run", "log_params", "log_metrics", "end_run"
    ]  # fmt: skip
    tell(told, Trial(3, tmp_path), "on_trial_start")
    assert server.calls.count("setup_mlflow") == 1 and server.refused == 1


def test_mlflow_waits_seconds_for_a_server_unless_told_otherwise(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout, retries = ray_trackers.PATIENCE
    monkeypatch.setenv(timeout, "77")
    monkeypatch.setenv(retries, "9")  # so that what is set is taken back
    monkeypatch.delenv(retries)
    tracker("mlflow", "toy")
    assert os.environ[timeout] == "77" and int(os.environ[retries]) <= 2


def test_an_interrupt_is_no_failure_of_a_tracker(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "setup_mlflow", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        tracker("mlflow", "toy").setup()


def test_tensorboards_files_are_where_they_stay_from_the_first_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = tracker("tensorboard", "toy")
    staging = tmp_path / "staging"
    about = Trial(1, staging)
    tell(told, about, "on_trial_start", "on_trial_result")
    [found] = (tmp_path / ray_trackers.DRAWN / "toy" / "000001-train-x").iterdir()
    assert found.name.startswith("events.out.tfevents") and not staging.exists()
    tell(told, about, "on_trial_complete")
    assert b"score" in found.read_bytes()
