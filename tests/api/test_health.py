from __future__ import annotations

from pathlib import Path

import pytest
from example_study import toy_store

from nas import api
from nas.api import health


def found(storage: str | None = None) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in api.doctor(storage)}


def test_every_part_says_what_it_is_for_and_missing_ones_what_adds_them() -> None:
    rows = found()
    for name in ("python", "torch", "onnxruntime", "ray", "NVML", "GPU", "database", "disk"):
        assert name in rows
    for row in rows.values():
        assert row["enables"]
        assert row["found"] or row["add"] or row["name"] == "GPU"
    assert str(rows["torch"]["found"])[0].isdigit()
    assert rows["processor"]["found"]


def test_what_is_missing_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(health, "_version", lambda name: None)
    monkeypatch.chdir(tmp_path)
    rows = found()
    assert rows["torch"]["found"] is None
    assert rows["torch"]["needed"] is True
    assert rows["ray"]["add"] == "pip install 'ray[tune]'"
    (tmp_path / "constraints.txt").write_text("")
    assert found()["ray"]["add"] == "pip install -c constraints.txt -e '.[ray]'"


def test_the_database_is_counted_missing_or_broken(tmp_path: Path) -> None:
    assert found(f"sqlite:///{tmp_path}/none.db")["database"]["found"] is None
    toy_store(tmp_path)
    assert found(f"sqlite:///{tmp_path}/studies/nas.db")["database"]["found"] == "1 study"
    (tmp_path / "broken.db").write_text("no database")
    told = found(f"sqlite:///{tmp_path}/broken.db")["database"]["found"]
    assert str(told).startswith("cannot be read: ")


def test_a_full_disk_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LEAST_DISK", 1e18)
    row = found()["disk"]
    assert row["found"] is None
    assert "GB free at" in str(row["enables"])


def test_a_gpu_is_named_by_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def nvmlDeviceGetName(self, handle: object, text: object, size: object) -> int:
            text.value = b"Some GPU"  # type: ignore[attr-defined]
            return 0

    class Gpu:
        library, handle = Library(), None

    monkeypatch.setattr(health, "first_gpu", Gpu)
    monkeypatch.setattr(health, "_version", lambda name: "2.13.0+cpu")
    rows = found()
    assert rows["GPU"]["found"] == "Some GPU"
    assert rows["torch for CUDA"]["add"] == "pip install torch==2.13.0"
