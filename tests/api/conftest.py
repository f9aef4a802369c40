"""A searched study in a database, its files real networks, made without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKPOINT, ToyPerform, toy_space, toy_spec
from onnx_networks import Chain

from nas.core.job import Done
from nas.core.objective import BUILTIN
from nas.core.study import StudySpec
from nas.core.trial import History, Proposal
from nas.engine import Search
from nas.runners.inline import Inline
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store

SPEC = toy_spec(
    objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]),
    trials=10,
    confirm=0.0,
    promotion="none",
)


class Sampling:
    """Draws networks at random, the same on every run."""

    def propose(self, history: History, count: int) -> list[Proposal]:
        import numpy as np

        first = len(history.proposals)
        rngs = [np.random.default_rng([5, first + i]) for i in range(count)]
        return [Proposal(toy_space().sample(rng)) for rng in rngs]


class Writing(ToyPerform):
    """Does a toy's jobs, and leaves the files behind."""

    def __init__(self, spec: StudySpec, artifacts: Artifacts) -> None:
        super().__init__(spec)
        self.artifacts = artifacts
        artifacts.folder.mkdir(parents=True, exist_ok=True)
        artifacts.path(CHECKPOINT).touch()

    def file(self, choices: Mapping[str, Any], seed: int) -> str:
        chain = Chain(3, 16, seed).conv(choices["width"], choices["kernel"])
        for _ in range(choices["depth"]):
            chain.op("Relu").conv(choices["width"], 3)
        chain.op("GlobalAveragePool").op("Flatten").linear(10)
        return self.artifacts.put(chain.save(self.artifacts.scratch() / "network.onnx"))

    def build(self, job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        made = super().build(job, report)
        return {**made, "file": self.file(job["architecture"]["choices"], 0)}

    def train(self, job: Mapping[str, Any], report: Any) -> dict[str, Any]:
        done = super().train(job, report)
        return done and {**done, "file": self.file(job["architecture"]["choices"], 1)}


@dataclass(frozen=True)
class Toy:
    """The study named toy, and where it is."""

    folder: Path
    url: str
    artifacts: Artifacts

    def search(self, spec: StudySpec = SPEC) -> StudySpec:
        """Runs the search, or goes on with it."""
        with Store(self.url) as store:
            if spec.name not in {row.name for row in store.studies()}:
                store.create(spec)
            epoch = store.claim(spec.name)
            search = Search(spec, toy_space(), Sampling(), store.events(spec.name))
            session = Session(search, store, epoch, self.artifacts)
            assert isinstance(Inline(Writing(spec, self.artifacts)).run(session), Done)
            store.release(spec.name, epoch)
        return spec


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A folder to work in, with a searched study and a second profile of this host."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_STORAGE", raising=False)
    (tmp_path / "hardware_profiles").mkdir()
    profile = tmp_path / "hardware_profiles" / "board.toml"
    profile.write_text('title = "this host by another name"\nkind = "cpu"\n')
    artifacts = Artifacts(tmp_path / "studies" / "artifacts")
    made = Toy(tmp_path, f"sqlite:///{tmp_path}/studies/nas.db", artifacts)
    made.search()
    return made
