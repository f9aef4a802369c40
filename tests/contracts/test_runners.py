"""Every runner takes a real search from its space to a front, and loses nothing."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from watching import until_recorded

from nas.api.crew import RUNNERS
from nas.catalog import load_space
from nas.engine import Search
from nas.runners.counter import Counter
from nas.store.store import Store
from nas.strategies.choose import create

SPACE = '''
"""Plain convnets, small enough for a test."""
from nas import Choice, Integer, SearchSpace

def build(choices, task):
    from torch import nn
    width = choices["width"]
    layers = [nn.Conv2d(3, width, 3, stride=4, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(choices["depth"]):
        layers += [nn.Conv2d(width, width, choices["kernel"], padding="same", groups=width),
                   nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, task.outputs))

space = SearchSpace("plain", [Choice("width", [8, 16, 32]), Choice("kernel", [3, 5]),
                              Integer("depth", 1, 3)], build)
'''
DRIVER = """
import json, sys
from nas.api import search
if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(search(space="plain", data="digits", study="s", **given).to_json()))
"""
MEASURED = [  # what everybody uses, always; the others by hand
    r if r == "processes" else pytest.param(r, marks=pytest.mark.long) for r in RUNNERS
]
COMPUTED = {"objectives": ["accuracy", "macs"], "trials": 8, "epochs": 3, "seed": 5}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "plain.py").write_text(SPACE)
    (tmp_path / "drive.py").write_text(DRIVER)
    return tmp_path


def command(place: Path, name: str, **given: Any) -> list[str]:
    import json

    options = {"storage": f"sqlite:///{name}/nas.db", **COMPUTED, **given}
    return [sys.executable, str(place / "drive.py"), json.dumps(options)]


def recorded(place: Path, name: str) -> tuple[Any, Any, Any, Any]:
    with Store(f"sqlite:///{place}/{name}/nas.db", read_only=True) as store:
        return store.spec("s"), store.trials("s"), store.front("s"), store.events("s")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runner", MEASURED)
def test_a_measured_search_ends_and_its_history_explains_it(
    place: Path, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not the cluster of other tests of this machine
    given = {"objectives": [], "runner": runner, "workers": 2, "promotion": "halving"}
    subprocess.run(command(place, "db", **given), cwd=place, check=True, timeout=280)
    monkeypatch.chdir(place)
    spec, trials, front, events = recorded(place, "db")
    assert [t.number for t in trials] == list(range(8))
    assert not [t for t in trials if t.state in ("running", "failed")]
    assert front.members and {m.measurements["latency_ms"].basis for m in front.members} == {
        "trained file"
    }
    space = load_space("plain").at(spec.task)
    with closing(Counter(spec, str(place / "db"))) as counts:
        strategy = create(
            spec.strategy, space, spec.objectives, spec.constraints, spec.seed, counts=counts
        )
        again = Search(spec, space, strategy, width=4)
        assert [again.retrace(e) for e in events] == events
    assert list(again.trials.values()) == trials


@pytest.mark.long
@pytest.mark.timeout(300)
def test_computed_searches_repeat_exactly_killed_or_not(place: Path) -> None:
    inline = {"runner": "inline"}
    for name in ("one", "two"):
        subprocess.run(command(place, name, **inline), cwd=place, check=True, timeout=120)
    for trials in (2, 5):
        with subprocess.Popen(command(place, "cut", **inline), cwd=place) as child:
            until_recorded(place / "cut" / "nas.db", trials, child)
            child.kill()
        inline["resume"] = True  # type: ignore[assignment]
    subprocess.run(command(place, "cut", **inline), cwd=place, check=True, timeout=120)
    one, two, cut = (recorded(place, name) for name in ("one", "two", "cut"))
    assert one[1:] == two[1:]
    assert one[1:3] == cut[1:3]
