"""Where candidates are trained, and that they come back from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import toy_spec
from pretended_gpu import GPU, OnGpu, Pretence
from torch import nn

from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.job import Outcome, Train
from nas.core.objective import BUILTIN
from nas.evaluate import training
from nas.evaluate.place import Place
from nas.store.artifacts import Artifacts
from nas.training.recipe import Recipe
from nas.training.tasks import describe


def place(folder: Path, train_on: str | None = None) -> Place:
    spec = replace(
        toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["macs"])), space="resnet",
        task=describe("digits"), recipe=Recipe().to_json(), fidelity=Fidelity(epochs=1, data=0.1),
    )  # fmt: skip
    return Place(spec, Artifacts(folder), folder / "locks", train_on=train_on)


@pytest.mark.parametrize(
    ("seen", "asked", "found"),
    [(False, None, "cpu"), (True, None, "cuda"), (True, "cpu", "cpu"), (True, "cuda", "cuda")],
)
def test_a_gpu_that_torch_sees_trains_unless_a_job_has_none(
    seen: bool, asked: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert place(tmp_path, asked).trainer == torch.device(found)


def test_a_gpu_that_is_promised_but_not_seen_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NasError, match="leave gpu out of --resources"):
        place(tmp_path, "cuda").trainer  # noqa: B018


@pytest.mark.slow
def test_a_candidate_is_trained_there_and_shipped_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[nn.Module, bool]] = []
    shipped: list[nn.Module] = []
    real = training.train

    def train(module: nn.Module, *given: Any, **named: Any) -> nn.Module:
        trained.append((module, all(isinstance(t, OnGpu) for t in module.state_dict().values())))
        return real(module, *given, **named)

    def ship(place: Place, job: Train, module: nn.Module, reports: object) -> Outcome:
        shipped.append(module)
        return Outcome({})

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "_shipped", ship)
    monkeypatch.setattr(Place, "trainer", GPU)
    monkeypatch.setattr("nas.training.train._OPTIMIZERS", {"adamw": torch.optim.AdamW})
    here = place(tmp_path)
    architecture = here.space.sample(np.random.default_rng(0))
    job = Train(0, architecture, "build", "file", 1, 0, from_rung=-1, to_rung=0)
    with Pretence():
        training.train_candidate(here, job, lambda rung, values: "go on")
    assert [on_gpu for _, on_gpu in trained] == [True]
    assert not any(isinstance(t, OnGpu) for t in shipped[0].state_dict().values())
