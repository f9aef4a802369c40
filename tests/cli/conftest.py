"""Runs the command line in this process over an API that only remembers what it was asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from example_study import predicted, study

from nas import api
from nas.cli.main import run
from nas.core.errors import NasError
from nas.core.retarget import Retarget, compare
from nas.report import documents
from nas.report import pick as picking
from nas.report.correlations import correlations_document

SNAPSHOTS = Path(__file__).parent / "snapshots"
ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--snapshot-update", action="store_true", help="rewrite tests/cli/snapshots")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the stored one of that name; only --snapshot-update writes it."""

    def check(name: str, text: str) -> None:
        path = SNAPSHOTS / f"{name}.txt"
        if request.config.getoption("--snapshot-update", default=False):
            path.write_text(text)
        assert path.exists(), f"no snapshot {path.name}; pytest tests/cli --snapshot-update"
        assert text == path.read_text()

    return check


@dataclass
class Answer:
    """What a command did: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Nas = Callable[..., Answer]


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nas:
    """Runs `nas` with these arguments, 80 columns wide, in an empty folder."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NAS_STORAGE", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


IMPORTANCE = {
    "study": "digits-1", "target": "front", "front": [4, 5], "networks": 36,
    "rows": [{"decision": "stages.0.kernel", "share": 0.62, "active": 36},
             {"decision": "stages.2.depth", "share": 0.376, "active": 20},
             {"decision": "head.norm", "share": 0.004, "active": 36}],
}  # fmt: skip


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments beside the package."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=env, check=False,
        timeout=60, **options,
    )  # fmt: skip


@dataclass
class Asked:
    """Calls of the API in order: name, positional and keyword arguments."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Any]:
        return self.calls[-1][2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The API replaced by one study made up by a formula; `asked` says how it was called."""
    spec, trials, front = study()
    seen = Asked()
    timing = front.members[0].measurements["latency_ms"].to_json()

    def pick(
        name: str, constraints: Any, prefer: Any, confidence: Any, device: Any, storage: Any
    ) -> picking.Pick:
        from nas.core.objective import Constraint

        limits = [Constraint.parse(c) for c in constraints]
        return picking.pick(front, limits, prefer, confidence)

    def show(
        name: str, trial: int | None = None, device: Any = None, storage: Any = None
    ) -> dict[str, Any]:
        if name != spec.name:
            raise NasError(f"no study named {name!r}", f"did you mean {spec.name!r}?")
        if trial is None:
            return documents.study_document(spec, trials)
        return documents.trial_document(spec, trials, trial)

    def retarget(name: str, device: str, watch: Any, **options: Any) -> Retarget:
        watch.on(f"timing on {device}", 0, 36)
        watch.on(f"timing on {device}", 36, 36)
        there = predicted(trials, device)
        return compare(spec, trials, there, device, {12: "no such file:\nf.onnx"})

    answers: dict[str, Callable[..., Any]] = {
        "search": lambda **options: front,
        "front": lambda name, **options: front,
        "pick": pick,
        "show": show,
        "retarget": retarget,
        "importance": lambda name, **options: IMPORTANCE,
        "correlations": lambda name, **options: correlations_document(spec, trials),
        "export": lambda *given, **options: {"file": "out/network.onnx", "latency_ms": timing},
        "studies": lambda **options: [],
        "devices": lambda address=None: [
            {"name": "cpu", "title": "This computer", "kind": "cpu", "runtime": "onnxruntime",
             "attached": True, "nodes": None, "predicted": None, "file": "cpu.toml",
             "shadows": None},
        ],
        "spaces": lambda: [
            {"name": "big", "file": "big.py", "about": "Large kernels.", "decisions": 9,
             "size": float("inf"), "presets": ["one"], "shadows": None},
        ],
        "profile": lambda *given, **options: {
            "space": "big", "input": [3, 32, 32], "params": 1000, "macs": 2e6, "activations": 10,
            "deploy": {"params": 900, "macs": 2e6}, "peak_memory_mb": 1.5,
            "batch": 1, "peak_memory_basis": "activations, counted", "size_mb": 0.004,
            "uncounted_ops": {}, "latency_ms": timing,
        },
    }  # fmt: skip

    def remembering(name: str) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            seen.calls.append((name, given, options))
            return answers[name](*given, **options)

        return call

    for name in answers:
        monkeypatch.setitem(vars(api), name, remembering(name))
    return seen
