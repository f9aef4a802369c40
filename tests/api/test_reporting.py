from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from example_study import toy_store

from nas import api
from nas.core.errors import NasError
from nas.store.secrets import masked


@pytest.fixture
def storage(tmp_path: Path) -> str:
    toy_store(tmp_path)
    return f"sqlite:///{tmp_path}/studies/nas.db"


def document(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_page_is_written_from_the_database(storage: str, tmp_path: Path) -> None:
    found = api.report("toy", tmp_path / "new" / "r.html", storage=storage)
    assert found["bytes"] == (tmp_path / "new" / "r.html").stat().st_size
    shown = document(tmp_path / "new" / "r.html")
    assert (
        found["front"]
        == len(shown["devices"][0]["front"])
        == len(api.front("toy", storage=storage).members)
    )
    assert shown["where"] == ["--storage", storage]
    assert len(shown["trials"]["number"]) == 39


def test_what_cannot_be_drawn_is_said(storage: str, tmp_path: Path) -> None:
    found = api.report("toy", tmp_path / "r.html", storage=storage)
    assert found["missing"]  # the files that the made-up study names are nowhere
    assert document(tmp_path / "r.html")["missing"] == found["missing"]


def test_mistakes(storage: str, tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"a report is a page, not a \.pdf") as caught:
        api.report("toy", "r.pdf", storage=storage)
    assert caught.value.hint == "end the name in .html: --output r.html"
    with pytest.raises(NasError, match="a report is a page") as caught:
        api.report("toy", ".", storage=storage)
    assert caught.value.hint == "end the name in .html: --output report.html"
    with pytest.raises(NasError, match="no study named 'toi'"):
        api.report("toi", tmp_path / "r.html", storage=storage)
    with pytest.raises(NasError, match="has no numbers for device 'a100'"):
        api.report("toy", tmp_path / "r.html", device="a100", storage=storage)
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match="cannot write"):
        api.report("toy", tmp_path / "file" / "r.html", storage=storage)


def test_a_password_is_never_written_down() -> None:
    assert "secret" not in masked("postgresql+psycopg://me:secret@host:5432/nas")


def test_progress_is_told(storage: str, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    class Watch:
        def on(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

    api.report("toy", tmp_path / "r.html", storage=storage, watch=Watch())
    assert [done for _, done, _ in told] == list(range(len(told)))
