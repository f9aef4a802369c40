import multiprocessing as mp
import os
import signal
import tempfile
from pathlib import Path

import pytest

from nas.core.job import Workload
from nas.hardware.agent import workplace as module
from nas.hardware.agent.workplace import claim, lasting, reclaim, workplace
from nas.hardware.hosts import Local
from nas.hardware.probe import probe

SPAWN = mp.get_context("spawn")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def old(folder):
    os.utime(folder, (1, 1))
    return folder


def hold(place, held):
    """Works in a folder and never comes to an end."""
    tempfile.tempdir = str(place)
    with workplace("agent") as folder:
        (folder / "file").write_text("half")
        old(folder)
        held.set()
        signal.pause()


def test_what_a_killed_process_left_goes_and_what_lives_stays(place):
    held = SPAWN.Event()
    other = SPAWN.Process(target=hold, args=(place, held), daemon=True)
    other.start()
    assert held.wait(30)
    (left,) = place.glob("nas-tmp-agent-*")
    assert reclaim(place) == [] and (left / "file").exists(), "its maker is alive"
    os.kill(other.pid, signal.SIGKILL)
    other.join(10)
    assert reclaim(place) == [left] and not left.exists()


def test_only_ours_and_only_the_old(place, monkeypatch):
    for name in ("nas-tmp-agent-abcdefgh", "nas-agent-12345678", "nas-tmp-agent-0", "pytest-x"):
        old_one = place / name
        old_one.mkdir()
        old(old_one)
    (place / "nas-tmp-young-abcdefgh").mkdir()
    (place / "nas-tmp-file-abcdefgh").write_text("")
    old(place / "nas-tmp-file-abcdefgh")
    (place / "nas-tmp-link-abcdefgh").symlink_to(place / "pytest-x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        assert reclaim(place) == [], "another user's"
    assert reclaim(place) == [place / "nas-tmp-agent-abcdefgh"]
    assert len(list(place.iterdir())) == 6


def test_a_folder_is_held_while_it_is_used_and_gone_afterwards(place):
    with workplace("kernels") as folder:
        assert folder.parent == place and claim(folder) is None
    assert not folder.exists()
    kept = lasting("sources")
    old(kept)
    assert claim(kept) is None and reclaim(place) == []


def test_where_folders_cannot_be_locked_nothing_is_cleared_away(place, monkeypatch):
    def refuse(handle, how):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    with workplace("agent") as folder:
        old(folder)
        assert reclaim(place) == [] and folder.exists()


@pytest.mark.slow
def test_a_measuring_process_that_is_killed_leaves_what_the_next_one_clears(
    place, files, cpu, lease, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(place))  # of the process that measures

    class Killing(Local):
        def run(self, job, seconds):
            ended = super().run({**job, "mode": "layers", "seconds": 0}, seconds)
            left = [*place.glob("nas-tmp-profiler-*")]
            self.left.extend(map(old, left))
            return ended

    Killing.left = []
    device = cpu
    monkeypatch.setattr(type(device), "host", property(lambda self: Killing()))
    said = probe(files["hanging"], device, lease, Workload(), mode="layers")
    assert isinstance(said, str)
    assert Killing.left and not [*place.glob("nas-tmp-agent-*")]
    assert set(reclaim(place)) == set(map(Path, Killing.left))
