"""What a node is brought of a search: its sources, and nothing outside their folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
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


@pytest.mark.parametrize(
    ("cores", "setup", "shares"),
    [
        (2, {"threads": 1}, 2),  # who measures is no job of Ray's
        (2, {"threads": 1, "resources": {"CPU": 1.0}}, 4),
        (8, {"threads": 1, "resources": {"CPU": 1.0}}, 8),  # other nodes may be on this machine
        (2, {"threads": 1, "resources": {"CPU": 0.5}}, 8),
        (2, {"threads": 1, "resources": {"CPU": 0.0, "GPU": 0.125}}, 16),
        (8, {"threads": 4, "resources": {"CPU": 4.0}}, 2),
    ],
)
def test_the_shares_of_memory_add_up_to_what_there_is(
    monkeypatch: pytest.MonkeyPatch, cores: int, setup: dict[str, Any], shares: int
) -> None:
    nodes = [
        {"NodeID": "there", "Resources": {"CPU": 640.0}},
        {"NodeID": "here", "Resources": {"CPU": 4.0, "GPU": 2.0}},
    ]
    context = SimpleNamespace(get_node_id=lambda: "here")
    fake = SimpleNamespace(nodes=lambda: nodes, get_runtime_context=lambda: context)
    monkeypatch.setattr(ray_work, "ray", fake)
    monkeypatch.setattr(ray_work.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(ray_work, "settle", lambda setup: Path())
    monkeypatch.setattr(ray_work, "memory_share", lambda workers: 960 // workers)
    given = ray_work.Hands({**setup, "silence_s": 1.0})._setup
    assert given["memory_bytes"] == 960 // shares
