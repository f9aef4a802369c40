"""What benchmarks of the cluster and of the database say of themselves."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a benchmark, as a script beside it would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    return module


SUITES = {
    "def test_one(): pass": None,
    "def test_one(): assert False": "not passed: test_one",
    "import pytest\ndef test_one(): pytest.skip()": "not passed: test_one",
    "": "no test ran",
    "import nowhere": "not passed",
}


@pytest.mark.slow
@pytest.mark.parametrize(("source", "wrong"), SUITES.items())
def test_a_run_of_faults_is_good_only_where_tests_ran_and_passed(
    of: Any, source: str, wrong: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tests" / "faults"
    folder.mkdir(parents=True)
    (folder / "test_faults.py").write_text(source)
    suite = of("fault_suite")
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    run = suite.suite(0.0)
    said = suite.amiss(run)
    assert said is None if wrong is None else wrong in said
    assert run["commit"] == of("commit").commit()


def test_an_exit_code_alone_is_a_failure(of: Any) -> None:
    run = {"not passed": [], "tests": {"test_one": 1.0}, "exit code": 3}
    assert "exit code is 3" in of("fault_suite").amiss(run)


def test_a_commit_is_that_of_the_checkout_and_says_what_was_changed(
    of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = of("commit")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert module.commit() == "unknown"

    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    result = tmp_path / "benchmarks" / "results" / "one.json"
    result.parent.mkdir(parents=True)
    for path in (tmp_path / "code.py", result):
        path.write_text("before")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD")
    result.write_text("after")
    assert module.commit() == head
    (tmp_path / "code.py").write_text("after")
    assert module.commit() == head + "+"


@pytest.mark.slow
def test_confirming_has_a_rate_and_a_kept_databases_front_is_timed_again(
    of: Any, tmp_path: Path
) -> None:
    scale, kept = of("scale"), tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--trials", "60"]
    command += ["--json", str(kept), "--keep", str(tmp_path / "kept")]
    subprocess.run(command, check=True, capture_output=True)
    document = json.loads(kept.read_text())
    [row] = document["rows"]
    assert row["confirming_decisions"] > 0 and row["commit"] == of("commit").commit()
    rate = row["confirming_decisions"] / row["confirming_s"]
    assert row["confirming_decisions_a_second"] == pytest.approx(rate)
    heads, figures = scale.table(document).splitlines()[1:3]
    column = heads.index("confirming decisions/s") + len("confirming decisions/s")
    assert figures[:column].endswith(f" {rate:.0f}")
    assert figures.endswith(row["commit"][:8])

    row["front_query_s"] = 1e9
    kept.write_text(json.dumps(document))
    subprocess.run(command, check=True, capture_output=True)
    [again] = json.loads(kept.read_text())["rows"]
    assert again["front_query_s"] < 1e9 and again["members"] == row["members"] > 0
    fronts = {name for name in row if name.startswith("front_")}
    assert {n: again[n] for n in again if n not in fronts} == {
        n: row[n] for n in row if n not in fronts
    }


def test_another_database_than_postgresql_is_refused_in_words() -> None:
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--storage", "sqlite:///nas.db"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--storage is for a PostgreSQL server" in done.stderr and "Traceback" not in done.stderr
