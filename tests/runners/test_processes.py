"""Real workers on real jobs: what dies, hangs or eats memory costs one trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from watching import until_recorded

from nas.core.objective import BUILTIN
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.engine import Search
from nas.runners.processes import Processes
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store
from nas.strategies.choose import create
from nas.training.tasks import describe

HOSTILE = '''
"""A space whose points misbehave, each in its own way."""
import os, time
from nas import Choice, SearchSpace

def build(choices, task):
    import ctypes
    from torch import nn
    behaviour = choices["behaviour"]
    if behaviour == "segfault":
        ctypes.string_at(0)
    if behaviour == "kill":
        os.kill(os.getpid(), 9)
    if behaviour == "hang":
        time.sleep(3600)
    if behaviour == "memory":
        nn.Linear(200_000, 200_000)
    if behaviour == "raise":
        raise ValueError("this one cannot be built")
    width = choices["width"]
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.outputs),
    )

ways = ["segfault", "kill", "hang", "memory", "raise", "good"]
space = SearchSpace(
    "hostile", [Choice("behaviour", ways), Choice("width", [4, 8])], build,
    presets={w: {"behaviour": w, "width": 4} for w in ways},
)
'''


def spec_of(presets: tuple[str, ...], trials: int, **changes: Any) -> StudySpec:
    from nas.core.fidelity import Fidelity

    given: dict[str, Any] = {
        "name": "hostile",
        "space": "hostile",
        "task": describe("digits"),
        "device": "cpu",
        "objectives": (BUILTIN["accuracy"], BUILTIN["macs"]),
        "strategy": "random",
        "fidelity": Fidelity(epochs=1),
        "trials": trials,
        "presets": presets,
        "confirm": 0.0,
    }
    return StudySpec(**{**given, **changes})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "hostile.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(place: Path, spec: StudySpec, silence_s: float) -> list[Trial]:
    from nas.catalog import load_space

    artifacts = Artifacts(place / "artifacts")
    space = load_space(spec.space).at(spec.task)
    strategy = create(spec.strategy, space, spec.objectives, spec.constraints, spec.seed)
    setup = {"spec": spec.to_json(), "artifacts": str(artifacts.folder), "locks": str(place)}
    with Store(f"sqlite:///{place}/nas.db") as store:
        store.create(spec)
        epoch = store.claim(spec.name)
        session = Session(Search(spec, space, strategy, width=3), store, epoch, artifacts)
        Processes(setup, workers=2, silence_s=silence_s).run(session)
        return store.trials(spec.name)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_misbehaviour_costs_one_trial_and_is_recorded(place: Path) -> None:
    ways = ("segfault", "kill", "hang", "memory", "raise", "good")
    found = {t.architecture.choices["behaviour"]: t for t in run(place, spec_of(ways, 6), 20.0)}
    assert found["good"].state == "complete"
    said = {w: str(found[w].error) for w in ways if w != "good"}
    assert {found[w].state for w in said} == {"failed"}
    assert "SIGSEGV" in said["segfault"]
    assert "SIGKILL" in said["kill"]
    assert "said nothing for 20 s" in said["hang"]
    assert "memory" in said["memory"].lower()
    assert "this one cannot be built" in said["raise"]
    assert {found[w].attempts for w in said} == {2}


DRIVER = """
import sys
from nas.api import search
if __name__ == "__main__":
    search(space="hostile", data="digits", objectives=["accuracy", "macs"], strategy="random",
           presets=["good"], trials=9, epochs=1, runner="processes", workers=2, study="s",
           storage="sqlite:///nas.db", resume="--resume" in sys.argv)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_any_moment_the_search_resumes_to_its_full_count(place: Path) -> None:
    (place / "drive.py").write_text(DRIVER)
    space = HOSTILE.replace('["segfault", "kill", "hang", "memory", "raise", "good"]', '["good"]')
    (place / "search_spaces" / "hostile.py").write_text(space)
    begin = [sys.executable, "drive.py"]
    resume = [*begin, "--resume"]
    for wait_for, command in ((1, begin), (2, resume), (4, resume), (6, resume), (8, resume)):
        child = subprocess.Popen(command, cwd=place, start_new_session=True)
        until_recorded(place / "nas.db", wait_for, child)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    subprocess.run(resume, cwd=place, check=True, timeout=200)
    with Store(f"sqlite:///{place}/nas.db", read_only=True) as store:
        trials = store.trials("s")
    assert [t.number for t in trials] == list(range(9))
    assert not [t for t in trials if t.state == "running"]
