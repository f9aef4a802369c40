"""The walk-through notebook runs from its first cell to its last."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "studies" / "walkthrough.ipynb"


def run(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does: the value of its last expression is what it shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_it_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.timeout(400)  # the device may be held by others meanwhile
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_STORAGE", raising=False)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [run("".join(c["source"]), names) for c in cells if c["cell_type"] == "code"]
    study = names["study"]
    assert sum(t.state != "running" for t in study.trials) == 5
    assert study._repr_html_() in [v._repr_html_() for v in shown if v is study]
    assert len(names["table"]) == 5
    assert names["chosen"].member.trial in [m.trial for m in names["front"].members]
    assert tuple(shown[-1]) == (1, 10)
    page = (tmp_path / "report.html").read_text()
    assert "latency by layer" in page.lower()
    assert '"about":""' in page  # the layers of the front's networks were timed
