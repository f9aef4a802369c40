"""What a training step here keeps off: timings of this host's processor, and of what is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import toy_spec

from nas import evaluate
from nas.core.objective import BUILTIN, Constraint
from nas.evaluate import Place
from nas.store.artifacts import Artifacts

SPEC = toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]))


def seats(folder: Path, device: str, *limits: str) -> list[str]:
    spec = replace(SPEC, device=device, constraints=tuple(map(Constraint.parse, limits)))
    return [lease.device for lease in Place(spec, Artifacts(folder), folder / "locks").leases]


def test_profiles_of_one_processor_share_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_profiles").mkdir()
    (tmp_path / "hardware_profiles" / "two.toml").write_text('kind = "cpu"\nthreads = 2\n')
    assert seats(tmp_path, "cpu") == seats(tmp_path, "two") == ["cpu"]
    assert seats(tmp_path, "cpu", "latency_ms@two<=1") == ["cpu"]


def test_a_step_runs_on_the_processor_whatever_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seats(tmp_path, "a100") == ["cpu"]  # predicted: nothing of it to keep off
    assert seats(tmp_path, "ssh://kitchen/cpu") == ["cpu"]
    monkeypatch.setattr(evaluate, "attached", lambda device: True)
    assert seats(tmp_path, "a100") == ["cpu", "cuda"]
