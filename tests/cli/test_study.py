from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from example_study import study, toy_store

from nas import api

from .conftest import Asked, Nas

Snapshot = Callable[[str, str], None]


@pytest.mark.parametrize(
    "command", [("front", "digits-1"), ("pick", "digits-1"), ("show", "digits-1"),
                ("show", "digits-1", "4"), ("show", "digits-1", "--importance"),
                ("show", "digits-1", "--proxies"),
                ("export", "digits-1", "4", "--output", "out"), ("studies",),
                ("retarget", "digits-1", "--device", "a100")],
)  # fmt: skip
def test_what_people_see(
    command: tuple[str, ...], nas: Nas, asked: Asked, snapshot: Snapshot
) -> None:
    answer = nas(*command)
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    shown = "\n".join(line.rstrip() for line in answer.out.splitlines())
    name = "_".join(w.removeprefix("--") for w in command if w != "--output")
    snapshot(f"table_{name}", f"{shown}\n-- stderr\n{answer.err}")


@pytest.mark.parametrize(
    "command", [("front", "digits-1"), ("pick", "digits-1"), ("show", "digits-1"),
                ("show", "digits-1", "4"), ("show", "digits-1", "--importance"),
                ("show", "digits-1", "--proxies"),
                ("export", "digits-1", "4", "--output", "out"), ("studies",),
                ("retarget", "digits-1", "--device", "a100")],
)  # fmt: skip
def test_json_is_one_document(command: tuple[str, ...], nas: Nas, asked: Asked) -> None:
    answer = nas(*command, "--json", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    json.loads(answer.out)


@pytest.mark.parametrize(
    ("command", "problem"),
    [(("digits-1", "4", "--proxies"), "--proxies is of a whole study, not of trial 4"),
     (("digits-1", "--importance", "--device", "cpu"),
      "--importance is of a whole study, not of --device cpu"),
     (("digits-1", "--importance", "--proxies"), "--importance and --proxies are two tables")],
)  # fmt: skip
def test_what_only_a_whole_study_can_say(
    command: tuple[str, ...], problem: str, nas: Nas, asked: Asked
) -> None:
    answer = nas("show", *command)
    assert answer.code == 2 and problem in answer.err and not asked.calls


def test_front_passes_device_and_storage(nas: Nas, asked: Asked) -> None:
    nas("front", "digits-1", "--device", "cpu", "--storage", "sqlite:///x.db")
    assert asked.calls[-1] == (
        "front", ("digits-1",), {"device": "cpu", "storage": "sqlite:///x.db"},
    )  # fmt: skip


def test_storage_comes_from_the_environment(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STORAGE", "sqlite:///env.db")
    answer = nas("front", "digits-1")
    assert asked.last["storage"] == "sqlite:///env.db"
    assert "--storage" not in answer.err


def test_csv(nas: Nas, asked: Asked) -> None:
    rows = list(csv.DictReader(io.StringIO(nas("front", "digits-1", "--csv").out)))
    assert [int(row["trial"]) for row in rows] == [m.trial for m in study()[2].members]


def test_plot(nas: Nas, asked: Asked, tmp_path: Path) -> None:
    answer = nas("front", "digits-1", "--plot", "front.png")
    assert answer.code == 0
    assert answer.err.startswith("drawn: front.png\n")
    assert (tmp_path / "front.png").stat().st_size > 5000
    assert [call[0] for call in asked.calls] == ["front", "show"]


def test_pick_passes_everything(nas: Nas, asked: Asked) -> None:
    answer = nas(
        "pick", "digits-1", "--constraint", "latency_ms<=1", "--constraint", "accuracy>=90",
        "--prefer", "latency_ms", "--confidence", "0.6", "--json",
    )  # fmt: skip
    assert asked.last == {
        "constraints": ("latency_ms<=1", "accuracy>=90"), "prefer": "latency_ms",
        "confidence": 0.6, "device": None, "storage": None,
    }  # fmt: skip
    found = json.loads(answer.out)
    assert found["reason"].startswith("the lowest latency_ms of ")
    point = f"digits-1 {found['trial']}"
    assert answer.err == f"next: nas train {point}\n      nas export {point} --output out/\n"


def test_export_passes_everything(nas: Nas, asked: Asked) -> None:
    nas("export", "digits-1", "4", "--output", "out", "--format", "pt2")
    assert asked.calls[-1] == (
        "export", ("digits-1", 4, Path("out")),
        {"format": "pt2", "storage": None, "runtime": None, "int8": False, "images": True,
         "preprocess_in_graph": False, "searched": False},
    )  # fmt: skip
    nas("export", "digits-1", "4", "--output", "out", "--int8", "--searched", "--no-images",
        "--preprocess-in-graph", "--runtime", "openvino")  # fmt: skip
    options = asked.calls[-1][2]
    assert options == {"format": "onnx", "storage": None, "runtime": "openvino", "int8": True,
                       "images": False, "preprocess_in_graph": True, "searched": True}  # fmt: skip


def test_retarget_passes_everything(nas: Nas, asked: Asked) -> None:
    answer = nas(
        "retarget", "digits-1", "--device", "t4", "--limit", "3", "--fresh", "--take-over",
        "--runtime", "torch:compiled", "--storage", "sqlite:///x.db", "--json", "--quiet",
        "--workload", "b1-8",
    )  # fmt: skip
    name, given, options = asked.calls[-1]
    options.pop("watch")
    assert (name, given) == ("retarget", ("digits-1", "t4"))
    assert options.pop("runtime") == "torch:compiled"
    assert options == {"limit": 3, "fresh": True, "take_over": True, "workloads": ("b1-8",),
                       "storage": "sqlite:///x.db"}  # fmt: skip
    document = json.loads(answer.out)
    assert answer.err == "" and document["device"] == "t4"
    assert {"study", "objectives", "front", "hypervolume", "retarget"} <= set(document)
    changed = document["retarget"]
    assert (changed["from"], changed["to"], changed["predicted"]) == ("cpu", "t4", 36)
    assert -1 <= changed["tau"]["low"] < changed["tau"]["value"] < changed["tau"]["high"] <= 1
    assert {m["trial"] for m in document["front"]} >= set(changed["joined"])


@pytest.mark.parametrize("command", ["front", "pick", "show"])
def test_the_device_is_passed_on_and_proposed_again(command: str, nas: Nas, asked: Asked) -> None:
    answer = nas(command, "digits-1", "--device", "cpu")
    assert asked.last["device"] == "cpu"
    if command != "pick":
        assert answer.err.rstrip().endswith("digits-1 --device cpu")


def test_a_retarget_needs_a_device(nas: Nas, asked: Asked) -> None:
    answer = nas("retarget", "digits-1")
    assert answer.code == 2 and "--device" in answer.err and not asked.calls


def test_studies_propose_the_last(nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"name": "one", "space": "s", "device": "cpu", "data": "digits", "trials": 8,
           "counts": {"complete": 8}, "running": False, "updated": "2026-11-21T08:30"}  # fmt: skip
    monkeypatch.setitem(vars(api), "studies", lambda **options: [row, {**row, "name": "two"}])
    answer = nas("studies")
    assert answer.err == "next: nas front two\n"


def test_a_real_database(nas: Nas, tmp_path: Path) -> None:
    toy_store(tmp_path)
    assert json.loads(nas("front", "toy", "--json").out)["front"]
    assert [row["name"] for row in json.loads(nas("studies", "--json").out)] == ["toy"]
    assert json.loads(nas("show", "toy", "--json").out)["trials"]["complete"] == 36
    assert json.loads(nas("show", "toy", "2", "--json").out)["trial"] == 2
    assert nas("pick", "toy", "--constraint", "latency_ms<=1").code == 0
    assert nas("front", "toy", "--plot", "a.html").code == 0
    assert nas("front", "toi").err.startswith("no study named 'toi'\n  did you mean 'toy'?")
    assert nas("show", "toy", "99").err.startswith("study 'toy' has no trial 99\n")
