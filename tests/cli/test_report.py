"""The commands that make a study visible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_study import toy_store

from nas import api

from .conftest import Nas


def test_report_passes_everything(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def report(study: str, output: Path, **options: Any) -> dict[str, Any]:
        seen.append({"study": study, "output": output, **options})
        return {"study": study, "output": str(output), "bytes": 120_000, "front": 4,
                "missing": ["trial 3 is not drawn: its file is gone"]}  # fmt: skip

    monkeypatch.setitem(vars(api), "report", report)
    answer = nas("report", "digits-1", "--output", "r.html", "--device", "a100", "--no-layers",
                 "--storage", "sqlite:///x.db")  # fmt: skip
    watch = seen[0].pop("watch")
    assert watch is not None
    assert seen == [{"study": "digits-1", "output": Path("r.html"), "device": "a100",
                     "layers": False, "storage": "sqlite:///x.db"}]  # fmt: skip
    assert [line.rstrip() for line in answer.out.splitlines()] == [
        "page     r.html  0.12 MB", "front    4 points",
        "missing  trial 3 is not drawn: its file is gone",
    ]  # fmt: skip


def test_a_report_of_a_real_database(nas: Nas, tmp_path: Path) -> None:
    toy_store(tmp_path)
    answer = nas("report", "toy", "--output", "r.html", "--json")
    assert json.loads(answer.out)["output"] == "r.html"
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_dashboard_says_where_and_ends_quietly(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    def dashboard(study: str, ready: Any, **options: Any) -> None:
        assert options == {"host": "127.0.0.1", "port": 9, "storage": None}
        ready("http://127.0.0.1:9/dashboard/studies/0")
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(api), "dashboard", dashboard)
    answer = nas("dashboard", "toy", "--port", "9")
    assert (answer.code, answer.out) == (0, "http://127.0.0.1:9/dashboard/studies/0\n")
    assert answer.err == "Ctrl-C ends it\n"
    assert json.loads(nas("dashboard", "toy", "--port", "9", "--json").out)["study"] == "toy"


def test_doctor_shows_what_is_here_and_what_adds_the_rest(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"name": "python", "found": "3.11.7", "enables": "everything", "add": "", "needed": True},
        {"name": "ray", "found": None, "enables": "--runner ray", "add": "pip install x",
         "needed": False},
    ]  # fmt: skip
    monkeypatch.setitem(vars(api), "doctor", lambda storage: rows)
    lines = [line.rstrip() for line in nas("doctor").out.splitlines()]
    assert lines == ["python  3.11.7", "", "ray  not here: --runner ray", "  pip install x"]
    assert json.loads(nas("doctor", "--json").out) == rows
