"""What is removed is what nothing rests on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import toy_spec
from example_study import toy_store

from nas import NasError, api
from nas.api.cleaning import named, wanted
from nas.core.architecture import Architecture
from nas.core.trial import Event, Rung, Trained, Trial
from nas.store.artifacts import Artifacts
from nas.store.store import Store


def name(text: str, suffix: str = "safetensors") -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()}.{suffix}"


def trial(number: int, state: str) -> Trial:
    rungs = tuple(Rung(0, i, i + 1, 50.0, 10, name(f"{number} rung {i}")) for i in range(2))
    trained = (Trained(0, name(f"{number} trained", "onnx"), 50, 1, 10, 50, 1, 5),)
    return Trial(
        number, Architecture("toy", {"width": number}), state=state,  # type: ignore[arg-type]
        file=name(f"{number} built", "onnx"), rungs=rungs, trained=trained,
    )  # fmt: skip


def test_the_front_and_what_is_under_way_keep_their_last_files() -> None:
    trials = [trial(0, "complete"), trial(1, "complete"), trial(2, "running"), trial(3, "stopped")]
    found = wanted(trials, {1})
    for number in (1, 2):
        assert name(f"{number} rung 1") in found and name(f"{number} rung 0") not in found
        assert name(f"{number} trained", "onnx") in found
    assert len(found) == 6
    assert wanted([replace(trials[0], file=None, rungs=(), trained=())], {0}) == set()


def test_names_are_found_wherever_an_event_has_them() -> None:
    inside = {"trained": {"file": name("a", "onnx"), "more": [{"checkpoint": name("b")}]}}
    assert named([Event("reported", 0, inside), Event("told", 0, {"state": "complete"})]) == {
        name("a", "onnx"), name("b"),
    }  # fmt: skip


def test_files_that_nothing_names_go_and_others_stay(tmp_path: Path) -> None:
    toy_store(tmp_path)
    url = f"sqlite:///{tmp_path / 'studies' / 'nas.db'}"
    folder = tmp_path / "studies" / "artifacts"
    alive = Artifacts(folder).scratch()
    host = alive.name.rsplit("-", 2)[0]
    dead = [alive.parent / name for name in ("999999999", f"{host}-999999999-0123456789ab")]
    others = alive.parent / "another-host-1-999999999-0123456789ab"
    for scratch in (*dead, others):
        scratch.mkdir()
    (folder / name("nobody's")).write_bytes(b"12345")
    (folder / "notes.txt").write_text("not ours to remove")
    study = "toy"
    planned = api.gc(study, dry_run=True, storage=url)
    assert planned["files"] == 1 and planned["bytes"] == 5 and dead[0].exists()
    assert api.gc(study, storage=url) == {**planned, "dry_run": False}
    assert sorted(p.name for p in folder.iterdir()) == ["notes.txt", "under-way"]
    assert {p.name for p in (folder / "under-way").iterdir()} == {alive.name, others.name}
    with pytest.raises(NasError):
        api.gc("no-such-study", storage=url)


def test_a_place_of_its_own_may_hold_the_files_of_others(tmp_path: Path) -> None:
    url, place = f"sqlite:///{tmp_path / 'nas.db'}", tmp_path / "shared"
    (tmp_path / "artifacts").mkdir()
    place.mkdir()
    left, stopped = tmp_path / "artifacts" / name("left"), place / name("stopped")
    others = place / name("another database's")
    for path in (left, stopped, others):
        path.write_bytes(b"1")
    with Store(url) as store:
        store.create(replace(toy_spec(), artifacts=str(place)))
        epoch = store.claim(toy_spec().name)
        told = [Event("reported", 0, {"job": "build", "file": stopped.name})]
        store.commit(toy_spec().name, epoch, told, [], [], [])
        store.release(toy_spec().name, epoch)
    assert api.gc(toy_spec().name, storage=url)["files"] == 1
    assert left.exists() and others.exists() and not stopped.exists()
