"""What a node is brought of a search: its sources, and nothing outside their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from nas.core.errors import NasError
from nas.runners import ray_work
from nas.runners.ray_work import settle, sources


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a node puts sources in."""
    found = tmp_path / "deep" / "copied"
    found.mkdir(parents=True)
    monkeypatch.setattr(ray_work, "lasting", lambda what: found)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_work.sys, "path", [])
    return found


def setup(**names: str) -> dict[str, Any]:
    return {"folder": "/nowhere", "sources": names, "paths": []}


def test_the_users_own_files_come_to_a_node(copied: Path, tmp_path: Path) -> None:
    for name in ("search_spaces/mine.py", "hardware_profiles/board.toml", "search_spaces/x.txt"):
        place = tmp_path / "home" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    found = sources(tmp_path / "home")
    assert settle(setup(**found)) == copied == Path.cwd()
    there = {str(p.relative_to(copied)): p.read_text() for p in copied.rglob("*") if p.is_file()}
    assert (
        there == found == {n: n for n in ("search_spaces/mine.py", "hardware_profiles/board.toml")}
    )


@pytest.mark.parametrize(
    "name",
    [
        "../x.py", "search_spaces/../x.py", "search_spaces/../../x.py", "/tmp/x.py", "x.py",
        "search_spaces/..", "search_spaces/x", "elsewhere/x.py", "../search_spaces/x.py",
        "hardware_profiles/x.py", "search_spaces/deeper/x.py",
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_folder(copied: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(NasError, match="not a file that a search brings"):
        settle(setup(**{"search_spaces/good.py": "", name: "harm"}))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
