"""Who does the work: what each runner takes, and what is said of what it does not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from nas import api
from nas.api.crew import amounts, crew
from nas.core.errors import NasError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"runner": "rya"}, "did you mean 'ray'"),
        ({"runner": "processes", "address": "head:6379"}, "--address is for a cluster"),
        ({"runner": "inline", "resources": ["gpu=1"]}, "--resources is for a cluster"),
        ({"runner": "processes", "callbacks": ["mlflow"]}, "--callback is for a cluster"),
        ({"runner": "processes", "workers": 10**6}, "this machine has"),
        ({"runner": "ray", "address": "127.0.0.1:1"}, "no Ray cluster answers"),
        ({"runner": "ray", "resources": ["gpu"]}, "does not say how much"),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(NasError, match=told), crew(**given):
        pass


def test_no_password_reaches_the_list_of_a_clusters_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/nas"
    nowhere: dict[str, Any] = {"runner": "ray", "address": "127.0.0.1:1"}
    monkeypatch.setattr(sys, "orig_argv", ["nas", "search", "--storage", url])
    with pytest.raises(NasError, match="Ray lists a typed password"):
        api.search(space="largekernel", storage=url, **nowhere)
    with pytest.raises(NasError, match="Ray lists a typed password"):
        api.train("s", [1], storage=url, **nowhere)
    with pytest.raises(NasError, match="artifacts holds a password"):
        api.search(space="largekernel", artifacts="s3://key:hunter2@bucket/nas", **nowhere)


def test_how_many_trials_are_under_way() -> None:
    with crew("inline", 4) as alone, crew("processes", 4) as four:
        assert (alone.width, four.width) == (1, 6)


@pytest.mark.parametrize("word", ["gpu=-1", "=2", "gpu=x", "gpu=nan", "gpu=inf"])
def test_amounts_that_are_none(word: str) -> None:
    with pytest.raises(NasError, match="--resources"):
        amounts([word])


def test_a_job_takes_something() -> None:
    with pytest.raises(NasError, match="cpu=0: any number of such jobs") as caught:
        amounts(["cpu=0"])
    assert "cpu=0,gpu=0.25" in caught.value.hint
    assert amounts(["cpu=0,gpu=0.25"]) == {"CPU": 0.0, "GPU": 0.25}


def test_callbacks_are_known_by_name() -> None:
    pytest.importorskip("ray")
    from nas.runners.ray_search import Terms

    assert Terms(callbacks=("tensorboard",)).callbacks == ("tensorboard",)
    with pytest.raises(NasError, match="did you mean 'mlflow'"):
        Terms(callbacks=("mlfow",))
