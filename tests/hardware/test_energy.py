import contextlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nas.core.job import Workload
from nas.hardware import energy as module
from nas.hardware.energy import above_idle, energy, unreadable
from nas.hardware.session import Session
from nas.hardware.timing import measure

from .agent.test_energy import zone


def test_idle_power_on_both_sides_is_taken_off():
    windows = [
        (10.0, 1.0, 1),  # 10 W idle
        (36.0, 2.0, 8),  # 18 W busy
        (28.0, 2.0, 1),  # 14 W idle
        (20.0, 1.0, 4),  # 20 W busy
        (20.0, 2.0, 1),  # 10 W idle
    ]
    # (36 - 12 * 2) / 8 and (20 - 12 * 1) / 4
    assert above_idle(windows) == [1.5, 2.0]


def said(monkeypatch, windows):
    state = {"throttles": {}, "gpu": None}
    session = Session(
        [0], start={"runtime": {}, "versions": {}, "state": state}, end={"state": state}
    )
    session.results[0] = {"counter": "rapl package", "windows": windows}
    monkeypatch.setattr(module, "probe", lambda *_, **__: session)


def test_millijoules_an_image_with_their_interval_by_hand(tmp_path, cpu, lease, monkeypatch):
    idle = (5.0, 1.0, 1)
    said(monkeypatch, [idle, (9.0, 1.0, 100), idle, (10.0, 1.0, 100), idle, (11.0, 1.0, 100), idle])
    found = energy(tmp_path / "any", cpu, lease, Workload(10), basis="trained file")
    # 40, 50 and 60 mJ a call of ten images: a deviation of 1, a standard error of 3^-0.5
    assert (found.objective, found.unit) == ("energy_mj", "mJ")
    assert found.value == pytest.approx(5.0)
    assert found.se == pytest.approx(3**-0.5)
    assert found.high - found.value == pytest.approx(2.91999 * 3**-0.5 * 2**0.5, rel=1e-4)
    assert found.record["idle_w"] == [5, 5, 5, 5] and found.record["busy_w"] == [9, 10, 11]
    assert (found.source, found.basis, found.n) == ("measured", "trained file", 3)


def test_what_cannot_be_told_from_idle_is_absent_never_zero(tmp_path, cpu, lease, monkeypatch):
    idle = (5.0, 1.0, 1)
    said(monkeypatch, [idle, (5.1, 1.0, 100), idle, (4.9, 1.0, 100), idle])
    assert "cannot be told from idle" in energy(tmp_path / "any", cpu, lease, basis="x")


def test_why_no_energy_can_be_measured(tmp_path, cpu):
    why = unreadable(cpu, str(tmp_path))
    assert why is not None and "no counter of energy" in why
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert unreadable(cpu, str(tmp_path)) is None


def test_a_device_that_is_not_here(cpu):
    from nas.hardware.device import parse

    gpu = parse('kind = "cuda"\nnames = ["No Such GPU"]', "gpu")
    assert "not attached" in (unreadable(gpu) or "")


IDLE_W, BUSY_W = 5.0, 20.0
RANGE = 20_000_000  # microjoules: it wraps every second


def processor_seconds():
    """What the processes that this one started have computed so far."""
    spent = 0
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            for task in Path(f"/proc/{child}/task").glob("*/schedstat"):
                spent += int(task.read_text().split()[0])
    return spent / 1e9


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_the_whole_way_from_a_counter_that_moves_with_the_work(files, tmp_path, cpu, lease):
    """A counter of 5 W always and 20 W for each second that the agent computes."""
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 0, most=RANGE)
    stop = threading.Event()

    def run():
        began = time.monotonic()
        while not stop.wait(0.001):
            with contextlib.suppress(OSError):  # the agent has ended meanwhile
                joules = BUSY_W * processor_seconds() + IDLE_W * (time.monotonic() - began)
                partial = folder / "partial"
                partial.write_text(str(int(1e6 * joules) % RANGE))
                partial.replace(folder / "energy_uj")

    ticking = threading.Thread(target=run)
    ticking.start()
    try:
        found = energy(files["large"], cpu, lease, window_s=0.2, powercap=str(tmp_path), basis="x")
    finally:
        stop.set()
        ticking.join()
    (latency,) = measure([files["large"]], cpu, lease, basis="x")
    # Beside others a call computes for longer than at best, and lasts longer than it computes.
    least, most = 0.5 * latency.value, 1.1 * np.mean(found.record["call_ms"])
    assert BUSY_W * least < found.value < BUSY_W * most
    assert found.record["idle_w"][0] == pytest.approx(IDLE_W, rel=0.5)
    assert found.record["counter"] == "rapl package"


def test_without_a_counter_the_agent_says_so(files, tmp_path, cpu, lease):
    why = energy(files["small"], cpu, lease, powercap=str(tmp_path), basis="x")
    assert "no counter of energy" in why
