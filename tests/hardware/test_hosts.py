"""The measuring process on this host finds what the one that asks finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.hardware import hosts


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the agent would be asked; in its place stands a program that says what it sees."""
    agent = tmp_path / "agent.py"
    agent.write_text(
        "import json, os\n"
        "try: import onlyhere; found = onlyhere.WHAT\n"
        "except ImportError: found = None\n"
        "print(json.dumps([found, os.environ.get('CUDA_VISIBLE_DEVICES')]))"
    )
    monkeypatch.setattr(hosts.bundle, "write", lambda folder: agent)
    return {"kind": "cpu"}


def seen(job: dict[str, Any]) -> list[Any]:
    found: list[Any] = json.loads(hosts.Local().run(job, 60.0).out)
    return found


def test_packages_that_only_a_path_names_are_found(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "onlyhere.py").write_text("WHAT = 7")
    assert seen(job)[0] is None
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))
    assert seen(job)[0] == 7


def test_a_gpu_hidden_from_a_worker_is_not_hidden_from_what_times_it(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert seen(job)[1] == ""
    assert seen({"kind": "cuda"})[1] is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert seen({"kind": "cuda"})[1] == "1"
