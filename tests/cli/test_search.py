"""Options and recipes reach the search; interrupts keep what was done."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_study import study

from nas import api
from nas.core.front import front_of

from .conftest import Asked, Nas

Snapshot = Callable[[str, str], None]


class Seen:
    """A snapshot as the session makes it."""

    def __init__(self, done: int) -> None:
        self.spec, trials, _ = study()
        self.trials, self.phase, self.jobs = trials[:done], "searching", ()

    @property
    def front(self) -> Any:
        return front_of(self.spec, self.trials)


def test_options_are_passed_on(nas: Nas, asked: Asked) -> None:
    answer = nas(
        "search", "--space", "largekernel", "--device", "cpu", "--data", "folder:x",
        "--objective", "accuracy", "--objective", "macs", "--constraint", "latency_ms<=5",
        "--strategy", "random", "--promotion", "none", "--preset", "convnext_a",
        "--trials", "9", "--hours", "0.5", "--epochs", "3", "--runner", "inline",
        "--workers", "2", "--study", "mine", "--seed", "7", "--fresh", "--take-over",
        "--storage", "sqlite:///x.db", "--quiet", "--runtime", "torch:bf16",
        "--network", "mine:net", "--weights", "w.safetensors", "--from", "old",
        "--no-proxies", "--address", "head:6379", "--resources", "gpu=0.5", "--callback", "wandb",
        "--predict-after", "5", "--artifacts", "s3://bucket/nas", "--precision", "fastest",
    )  # fmt: skip
    assert answer.code == 0
    given = dict(asked.last)
    assert given.pop("watch").last is None
    assert given == {
        "space": "largekernel", "device": "cpu", "data": "folder:x", "task": None,
        "objectives": ("accuracy", "macs"), "constraints": ("latency_ms<=5",),
        "presets": ("convnext_a",), "strategy": "random", "promotion": "none", "trials": 9,
        "hours": 0.5, "epochs": 3, "runner": "inline", "workers": 2, "study": "mine", "seed": 7,
        "resume": False, "take_over": True, "changed": False, "recipe": None,
        "fresh": True, "dry_run": False,
        "storage": "sqlite:///x.db", "runtime": "torch:bf16", "network": "mine:net",
        "weights": Path("w.safetensors"), "sources": ("old",), "proxies": False,
        "address": "head:6379", "resources": ("gpu=0.5",), "callbacks": ("wandb",),
        "predict_after": 5.0, "artifacts": "s3://bucket/nas", "precision": "fastest",
    }  # fmt: skip


def test_the_end_of_a_search(nas: Nas, asked: Asked, snapshot: Snapshot) -> None:
    answer = nas("search", "--space", "largekernel")
    snapshot("search_stdout", answer.out)
    snapshot("search_stderr", answer.err)


def test_a_search_without_one_trial_that_worked_is_a_failure(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = replace(Seen(2).front, members=(), trials={"complete": 0, "failed": 2})
    monkeypatch.setitem(vars(api), "search", lambda **options: front)
    error = "mine.py, line 7: no\n  a hint"
    monkeypatch.setitem(vars(api), "show", lambda name, number, storage: {"error": error})
    answer = nas("search", "--space", "largekernel", "--storage", "sqlite:///x.db")
    assert answer.code == 2
    assert answer.err.endswith(
        "all 2 trials of 'digits-1' failed, the first with: mine.py, line 7: no\n"
        "  nas show digits-1 0 --storage sqlite:///x.db\n"
    )
    assert "next:" not in answer.err
    front = replace(front, trials={"complete": 1, "failed": 2})
    assert nas("search", "--space", "largekernel").code == 0


def test_json_alone_on_stdout(nas: Nas, asked: Asked) -> None:
    answer = nas("search", "--space", "largekernel", "--json")
    assert json.loads(answer.out)["front"][0]["trial"] == 0
    assert answer.err.startswith("next: nas report digits-1 --output report.html\n")


def test_quiet_says_nothing_beside_the_answer(nas: Nas, asked: Asked) -> None:
    answer = nas("search", "--space", "largekernel", "--quiet")
    assert answer.err == ""
    assert answer.out.startswith("digits-1")


def test_quiet_keeps_the_remarks_of_runners_back(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def search(watch: Any, **options: Any) -> Any:
        said.append(logging.getLogger("nas.runners.ray").isEnabledFor(logging.WARNING))
        return Seen(2).front

    monkeypatch.setitem(vars(api), "search", search)
    for quiet in ([], ["--quiet"], []):
        nas("search", "--space", "largekernel", *quiet)
    assert said == [True, False, True]


def test_a_dry_run_says_so(nas: Nas, asked: Asked) -> None:
    answer = nas("search", "--space", "largekernel", "--dry-run")
    assert answer.out == "study 'digits-1' can be searched\n"
    assert answer.err == ""


def test_lines_while_it_runs(nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(watch: Any, **options: Any) -> Any:
        for done in range(3):
            watch.on(Seen(done))
        return Seen(2).front

    monkeypatch.setitem(vars(api), "search", search)
    err = nas("search", "--space", "largekernel").err
    assert "  0:00  searching\n  0:00  1/37  trial 0 complete  accuracy 87.7 ±2.1 %" in err


def test_an_interrupt_keeps_the_trials_and_says_how_to_go_on(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(watch: Any, **options: Any) -> Any:
        watch.on(Seen(5))
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(api), "search", search)
    answer = nas("search", "--space", "largekernel", "--quiet", "--json")
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == (
        "interrupted: 5 of 37 trials of 'digits-1' are kept\n"
        "  go on: nas search --study digits-1 --resume\n"
    )
    answer = nas("search", "--space", "l", "--storage", "sqlite:///a b.db", "--runner", "inline",
                 "--workers", "1", "--quiet")  # fmt: skip
    assert answer.err.splitlines()[1] == (
        "  go on: nas search --study digits-1 --resume --storage 'sqlite:///a b.db' "
        "--runner inline --workers 1"
    )


def test_what_a_cluster_was_given_is_typed_again_from_options_and_recipe(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def search(watch: Any, **options: Any) -> Any:
        watch.on(Seen(5))
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(api), "search", search)
    (tmp_path / "r.toml").write_text(
        '[search]\nspace = "l"\nrunner = "ray"\naddress = "head:6379"\nmax-concurrent = 4\n'
        'resources = ["cpu=2", "gpu=0.25"]\ncallback = "mlflow"\npredict-after = 5\n'
        'storage = "postgresql://me:secret@db/nas"\nseed = 7\n'
    )
    again = "  go on: nas search --study digits-1 --resume "
    answer = nas("search", "r.toml", "--callback", "wandb", "--callback", "tensorboard")
    assert answer.err.splitlines()[-1] == again + (
        "--storage 'postgresql://me:***@db/nas' --runner ray --workers 4 --address head:6379 "
        "--resources cpu=2 --resources gpu=0.25 --callback wandb --callback tensorboard "
        "--predict-after 5.0"
    )
    (tmp_path / "r.toml").write_text('[search]\nspace = "l"\nrunner = "ray"\ncallback = "mlflow"\n')
    answer = nas("search", "r.toml")
    assert answer.err.splitlines()[-1] == f"{again}--runner ray --callback mlflow"


def test_an_interrupt_before_the_first_trial(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(**options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(api), "search", search)
    answer = nas("search", "--space", "largekernel")
    assert (answer.code, answer.err) == (130, "interrupted\n  nothing is lost; type it again\n")


RECIPE = """
[search]
space = "largekernel"
objective = ["accuracy", "params"]
constraint = "latency_ms<=5"
trials = 40
hours = 2
dry-run = true
"""


def test_a_recipe_stands_for_options(nas: Nas, asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    assert nas("search", "r.toml").code == 0
    given = asked.last
    assert (given["space"], given["objectives"]) == ("largekernel", ("accuracy", "params"))
    assert (given["constraints"], given["trials"]) == (("latency_ms<=5",), 40)
    assert (given["hours"], given["dry_run"]) == (2.0, True)
    assert given["recipe"] == Path("r.toml")


def test_what_is_typed_wins_over_the_recipe(nas: Nas, asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    nas("search", "r.toml", "--trials", "4", "--objective", "macs")
    assert (asked.last["trials"], asked.last["objectives"]) == (4, ("macs",))
    assert asked.last["space"] == "largekernel"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[search]\nspaces = 'x'", "no option in r.toml named 'spaces'\n  did you mean 'space'"),
        ("[search]\ndry_run = true", "no option in r.toml named 'dry_run'\n  did you mean 'dry-"),
        ("[search]\nquiet = true", "no option in r.toml named 'quiet'\n"),
        ("[search]\ntrials = 'many'", "r.toml: trials: 'many' is not a whole number\n"),
        ("[search]\ntrials = true", "r.toml: trials = true is not one of its values\n"),
        ("[search]\nfresh = 'yes'", 'r.toml: fresh = "yes" is not true or false\n'),
        ("[search]\nspace = ['a', 'b']", 'r.toml: space = ["a", "b"] is more than one value\n'),
        ("[search]\nspace = {a = 1}", 'r.toml: space = {"a": 1} is more than one value\n'),
        ("[search]\ntrials = 0", "r.toml: trials: 0 is not in the range x>=1\n"),
        ("space = 'x'", "'r.toml' is not a recipe: it has space outside [search]\n"),
        ("", "'r.toml' is not a recipe\n  put the options under one table: [search]\n"),
        ("[search", "cannot read the recipe 'r.toml': "),
    ],
)
def test_faulty_recipes(text: str, problem: str, nas: Nas, asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text)
    answer = nas("search", "r.toml")
    assert (answer.code, answer.out, asked.calls) == (2, "", [])
    assert answer.err.startswith(problem)
    assert answer.err.count("\n") == 2


def test_a_recipe_that_is_no_text(nas: Nas, asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    assert nas("search", "r.toml").err.startswith("cannot read the recipe 'r.toml': ")
    (tmp_path / "folder.toml").mkdir()
    assert nas("search", "folder.toml").code == 2


def test_an_empty_front_proposes_to_look_why(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(api), "search", lambda **options: Seen(0).front)
    answer = nas("search", "--space", "largekernel")
    assert answer.err == "next: nas show digits-1\n"
    assert "no point on the front" in answer.out
