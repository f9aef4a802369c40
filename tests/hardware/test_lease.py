import fcntl
import multiprocessing as mp
import os
import signal
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.hardware.lease import Lease, default_folder

SPAWN = mp.get_context("spawn")


def train(folder, steps, started, stop, step_s):
    """Training steps back to back, so that the room is hardly ever empty."""
    lease = Lease(folder, "cpu")
    while not stop.is_set():
        with lease.training():
            started.set()
            time.sleep(step_s)
            with steps.get_lock():
                steps.value += 1


def hold(folder, held):
    """A measurement that never ends."""
    with Lease(folder, "cpu").measuring():
        held.set()
        time.sleep(60)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "locks"


@pytest.mark.slow
def test_a_measurement_waits_one_step_and_training_resumes(folder):
    steps, stop = SPAWN.Value("i", 0), SPAWN.Event()
    started = [SPAWN.Event() for _ in range(2)]
    workers = [
        SPAWN.Process(target=train, args=(folder, steps, s, stop, 0.1), daemon=True)
        for s in started
    ]
    for worker in workers:
        worker.start()
    try:
        assert all(s.wait(30) for s in started)
        for _ in range(3):
            begin = time.monotonic()
            with Lease(folder, "cpu").measuring():
                waited = time.monotonic() - begin
                alone = steps.value
                time.sleep(0.25)
                assert steps.value == alone, "a step ended while a measurement had the room"
            # one step of 0.1 s; the rest is for a busy machine
            assert waited < 1.0
            deadline = time.monotonic() + 10
            while steps.value < alone + 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert steps.value >= alone + 4, "training did not resume"
    finally:
        stop.set()
        for worker in workers:
            worker.join(10)


@pytest.mark.slow
def test_kill_9_frees_the_room(folder):
    held = SPAWN.Event()
    holder = SPAWN.Process(target=hold, args=(folder, held), daemon=True)
    holder.start()
    assert held.wait(30)
    entered = threading.Event()

    def enter():
        with Lease(folder, "cpu").training():
            entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    waiting.start()
    assert not entered.wait(0.2), "a step began during a measurement"
    os.kill(holder.pid, signal.SIGKILL)
    assert entered.wait(10), "a dead process kept the room"
    holder.join(10)
    waiting.join(10)


def test_steps_share_the_room_and_devices_do_not_meet(folder):
    cpu, gpu = Lease(folder, "cpu"), Lease(folder, "cuda:0")
    with cpu.training(), cpu.training(), gpu.measuring():
        assert len(list(folder.iterdir())) == 4


def test_locks_are_given_back_when_the_step_fails(folder):
    lease = Lease(folder, "cpu")
    for context in (lease.training, lease.measuring):
        with pytest.raises(ZeroDivisionError), context():
            1 / 0  # noqa: B018
    with lease.measuring():
        pass


def test_a_lock_is_given_back_by_those_forked_while_it_was_held(folder):
    """A loader's workers outlive the step that they were begun in, with every open file of it."""
    lease, (read, write) = Lease(folder, "cpu"), os.pipe()
    with lease.training():
        child = os.fork()
        if not child:
            os.read(read, 1)
            os._exit(0)
    try:
        with open(folder / "cpu.room", "r+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_everyone_may_open_the_locks_whatever_the_umask(folder):
    before = os.umask(0o077)
    try:
        with Lease(folder, "ssh://host/cpu").training():
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    locks = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
    assert locks == {"ssh___host_cpu.turnstile": 0o666, "ssh___host_cpu.room": 0o666}


def test_all_users_agree_on_a_place_that_is_not_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("NAS_LOCKS", raising=False)
    assert tmp_path not in default_folder().parents and str(os.getuid()) not in str(
        default_folder()
    )
    monkeypatch.setenv("NAS_LOCKS", str(tmp_path / "ours"))
    assert default_folder() == tmp_path / "ours"


def hold_as_nobody(folder, held, done):
    """A measurement by another user."""
    os.setgid(65534)
    os.setuid(65534)
    os.umask(0o077)
    with Lease(folder, "cpu").measuring():
        held.set()
        done.wait(30)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("first", ["root", "nobody"])
def test_users_wait_for_each_other(first):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o777)
        folder = Path(name) / "locks"
        if first == "root":
            Lease(folder, "cpu").check()
        held, done = SPAWN.Event(), SPAWN.Event()
        other = SPAWN.Process(target=hold_as_nobody, args=(folder, held, done), daemon=True)
        other.start()
        assert held.wait(30), "another user could not take the device"
        assert folder.stat().st_uid == (0 if first == "root" else 65534)
        with pytest.raises(BlockingIOError):
            fcntl.flock(os.open(folder / "cpu.room", os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
        done.set()
        with Lease(folder, "cpu").training():
            pass
        other.join(10)


def test_a_lock_that_was_tidied_away_while_it_was_waited_for_is_taken_anew(folder):
    lease, entered = Lease(folder, "cpu"), threading.Event()

    def enter():
        with Lease(folder, "cpu").measuring():
            entered.set()

    with lease.measuring():
        waiting = threading.Thread(target=enter, daemon=True)
        waiting.start()
        assert not entered.wait(0.1)
        for path in folder.iterdir():
            path.unlink()
    assert entered.wait(10)
    waiting.join(10)
    assert (folder / "cpu.turnstile").exists()


def test_a_link_or_a_folder_that_cannot_be_written_to_is_refused(folder, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    folder.symlink_to(tmp_path / "real")
    with pytest.raises(NasError, match="is a link"), Lease(folder, "cpu").training():
        pass
    monkeypatch.setattr("nas.hardware.agent.lease.PATIENCE_S", 0.0)

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "theirs").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(NasError, match="cannot open the lock") as error:
            Lease(tmp_path / "theirs", "cpu").check()
    assert "NAS_LOCKS" in error.value.hint


def test_a_planted_lock_link_is_refused(folder, tmp_path):
    folder.mkdir(0o700)
    (folder / "cpu.turnstile").symlink_to(tmp_path / "victim")
    with pytest.raises(NasError, match="cannot open the lock"), Lease(folder, "cpu").training():
        pass
    assert not (tmp_path / "victim").exists()
