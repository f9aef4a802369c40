import multiprocessing as mp
import os
import signal
import stat
import threading
import time

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


def test_the_folder_is_the_users_alone(folder):
    with Lease(folder, "ssh://host/cpu").training():
        pass
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {p.name for p in folder.iterdir()} == {
        "ssh___host_cpu.turnstile",
        "ssh___host_cpu.room",
    }
    assert str(os.getuid()) in default_folder().name


def test_a_link_or_someone_elses_folder_is_refused(folder, tmp_path, monkeypatch):
    real = tmp_path / "real"
    real.mkdir()
    folder.symlink_to(real)
    with pytest.raises(NasError, match="is a link"), Lease(folder, "cpu").training():
        pass
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(NasError, match="someone else"), Lease(real, "cpu").training():
        pass


def test_a_planted_lock_link_is_refused(folder, tmp_path):
    folder.mkdir(0o700)
    (folder / "cpu.turnstile").symlink_to(tmp_path / "victim")
    with pytest.raises(NasError, match="cannot open the lock"), Lease(folder, "cpu").training():
        pass
    assert not (tmp_path / "victim").exists()
