"""First points that exclude themselves: told before a search begins, or mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.api import searching
from nas.core.errors import NasError
from nas.core.space import SearchSpace
from nas.core.study import Start
from nas.store.store import Store

THIN = """
from nas import Choice, SearchSpace

def build(choices, task):
    raise AssertionError("nothing is built")

space = SearchSpace("thin", [Choice("width", [4, 8])], build,
                    presets={"halved": {"width": 8, "sparsity.pattern": "2:4"}})
"""


@pytest.fixture
def thin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "thin.py").write_text(THIN)
    return "thin+sparsity"


def test_a_preset_that_excludes_itself_is_told_before_anything_is_stored(
    thin: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    with pytest.raises(NasError) as refused:
        searching.search(space=thin, presets=["halved"], storage=url)
    problem, hint = str(refused.value).splitlines()
    assert problem == "sparsity.pattern=2:4 and --runtime onnxruntime exclude each other"
    assert "no 2:4 kernel" in hint and "change one of the two" in hint
    assert not (tmp_path / "nas.db").exists()


def test_points_of_other_studies_are_mended_for_what_this_one_wants_of_its_device(
    thin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def points(store: Store, spec: Any, space: SearchSpace, sources: Any) -> tuple[Start, ...]:
        repaired = space.repair({"width": 4, "sparsity.pattern": "2:4"})
        found.append(str(repaired.choices["sparsity.pattern"]))
        return ()

    url = f"sqlite:///{tmp_path}/nas.db"
    with Store(url):
        pass
    monkeypatch.setattr(searching, "first_points", points)
    searching.search(space=thin, sources=["other"], storage=url, dry_run=True)
    assert len(found) == 1 and found[0] != "2:4"
