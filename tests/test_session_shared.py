"""Networks that no training tells apart are trained once in a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKPOINT, ToyPerform, toy_space, toy_spec
from test_engine import Sampling

from nas.core.architecture import Choices
from nas.core.job import Train, job_from_json
from nas.engine import Search
from nas.runners.inline import Inline
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store

SPEC = toy_spec(trials=40, promotion="none", confirm=0.0)
LAST = len(SPEC.fidelity.rungs) - 1


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    folder = Artifacts(tmp_path / "artifacts")
    folder.folder.mkdir()
    for name in ("0" * 64 + ".onnx", CHECKPOINT, "2" * 64 + ".onnx"):
        folder.path(name).touch()
    return folder


def trainings(name: str, url: str, artifacts: Artifacts, shared: bool = True) -> list[Train]:
    """The training jobs of a study in which kernels are decided after training."""

    def without_kernel(choices: Choices) -> Choices:
        return {n: v for n, v in choices.items() if n != "kernel"}

    spec = replace(SPEC, name=name)
    space = replace(toy_space(), trained=without_kernel) if shared else toy_space()
    perform = ToyPerform(spec)
    with Store(url) as store:
        store.create(spec)
        epoch = store.claim(name)
        Inline(perform).run(
            Session(Search(spec, space, Sampling(spec.seed)), store, epoch, artifacts)
        )
        store.release(name, epoch)
    jobs = [job_from_json(job) for job in perform.done]
    return [job for job in jobs if isinstance(job, Train)]


def part(choices: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(v for n, v in sorted(choices.items()) if n != "kernel")


def test_one_training_serves_all_networks_that_differ_behind_it(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    jobs = trainings("one", f"sqlite:///{tmp_path}/a.db", artifacts)
    networks = {job.architecture.key for job in jobs}
    parts = {part(job.architecture.choices) for job in jobs}
    assert len(parts) < len(networks)  # there is something to share
    whole = [job for job in jobs if job.from_rung == -1]
    assert len(whole) == len(parts)
    rest = [job for job in jobs if job.from_rung == LAST]  # only exported and scored
    assert len(rest) == len(networks) - len(parts)
    assert all(job.checkpoint for job in rest)


def test_where_a_training_depends_on_everything_nothing_is_shared(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    jobs = trainings("one", f"sqlite:///{tmp_path}/a.db", artifacts, shared=False)
    assert all(job.from_rung == -1 for job in jobs)
    assert len(jobs) == len({job.architecture.key for job in jobs})
