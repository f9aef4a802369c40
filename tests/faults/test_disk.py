"""Disks that are full, and clocks that jump."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import audit
from clusters import FAULTS, MARKS, Place, ended, errors, parent

from nas.store.store import Store

pytestmark = MARKS


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "nas-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Takes what a disk has left, to the last byte."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.long
def test_a_search_fills_its_disk_and_is_resumed_once_there_is_room(
    place: Place, small: Path
) -> None:
    url, ballast = f"sqlite:///{small}/nas.db", small / "ballast"
    given = {"artifacts": str(small / "artifacts"), "file_bytes": 300_000}
    ballast.write_bytes(bytes(13 << 20))
    told = ended(place.search(url, "s", **given), code=2)  # who finds it full may be either
    assert ("No space left" in told or "no room to write" in told) and "--resume" in told
    fill(ballast)
    told = ended(place.search(url, "s", **given, resume=True), code=2)
    assert "no room to write" in told and "--resume" in told
    ballast.unlink()
    ended(place.search(url, "s", **given, resume=True))
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_the_disk_is_full_and_the_search_resumed(place: Place, url: str) -> None:
    told = ended(place.search(url, "s", fsize=160_000), code=2)
    assert "--resume" in told or "look after the disk" in told
    ended(place.search(url, "s", resume=True))
    assert audit(url, "s", place.locks) == []


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """What makes the clock of a process jump that loads it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the clock jump with")
    made = tmp_path / "jumps.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(made), str(FAULTS / "jumps.c"), "-ldl"]
    subprocess.run(command, check=True)
    return made


def jumps(process: int) -> bool:
    """Whether a process has loaded what makes its clock jump."""
    return "jumps.so" in Path(f"/proc/{process}/maps").read_text()


@pytest.mark.long
def test_the_clocks_of_a_search_and_of_its_workers_jump_a_day_and_back_all_the_time(
    place: Place, url: str, shim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of Ray's own daemons do not: with such clocks they start no process."""
    everywhere = {"runtime_env": {"env_vars": {"LD_PRELOAD": str(shim)}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(everywhere))
    gate = place.gate()
    search = place.search(url, "s", preload=shim, gates={"train": gate})
    waiting = gate.waiting(2)
    assert all(jumps(n) and jumps(parent(n)) for n in waiting)  # the actors of Ray as well
    gate.open()
    ended(search)
    with Store(url, read_only=True) as store:
        moments = store.moments("s")
    assert (max(moments) - min(moments)).days >= 1  # it did jump
    assert errors(url, "s") == []
    assert audit(url, "s", place.locks) == []
