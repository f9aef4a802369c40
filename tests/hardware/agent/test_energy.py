import pytest

from nas.hardware.agent.energy import Board, Rapl, counter, tick, window
from nas.hardware.agent.nvml import Gpu


def zone(root, name, title, energy, most=262_143_328_850):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(title + "\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_and_their_memory_are_added_and_the_rest_is_in_them(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 7_000_000)
    zone(tmp_path, "intel-rapl:1", "psys", 9)
    meter = counter("cpu", str(tmp_path))
    assert meter.name == "rapl dram+package"
    assert meter.joules() == 0
    (package / "energy_uj").write_text("3500000")
    (memory / "energy_uj").write_text("7250000")
    assert meter.joules() == pytest.approx(2.5 + 0.25)


def test_a_counter_that_wraps_goes_on(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, most=10_000_000)
    meter = Rapl([folder])
    for shown, total in ((9_500_000, 0.5), (200_000, 1.2), (100_000, 11.1)):
        (folder / "energy_uj").write_text(str(shown))
        assert meter.joules() == pytest.approx(total)


def test_no_counter_and_one_for_root_alone(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="no counter of energy in"):
        counter("cpu", str(tmp_path / "none"))
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (folder / "energy_uj").unlink()
    with pytest.raises(OSError, match="root alone"):
        counter("cpu", str(tmp_path))


class Library:
    """Stands for NVIDIA's: a board that has used what `used` says."""

    def __init__(self, *used):
        self.used = iter(used)

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, value):
        millijoules = next(self.used, None)
        if millijoules is None:
            return 15  # the GPU is lost
        value._obj.value = millijoules
        return 0


def test_a_gpus_board(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meter = counter("cuda", library=Library(5000, 5000, 8250))
    assert meter.name == "nvml board"
    assert (meter.joules(), meter.joules()) == (5, 8.25)
    with pytest.raises(OSError, match="no longer"):
        meter.joules()


def test_a_gpu_without_a_counter():
    with pytest.raises(OSError, match="no GPU with a counter"):
        counter("cuda", library=Library())
    with pytest.raises(OSError, match="no GPU with a counter"):
        counter("cuda", library="libno-such-library.so.1")


class Stepping:
    """A counter that shows one more joule after every second repetition of the work."""

    name = "stepping"

    def __init__(self):
        self.done = 0

    def work(self):
        self.done += 1

    def joules(self):
        return float(self.done // 2)


def test_windows_go_from_tick_to_tick():
    meter = Stepping()
    meter.work()
    joules, seconds, calls = window(meter, meter.work, 0.0)
    assert (joules, calls) == (1.0, 2)
    joules, seconds, calls = window(meter, meter.work, 0.002)
    assert seconds >= 0.002 and calls == 2 * joules > 2


class Still:
    name = "still"

    def joules(self):
        return 3.0


def test_a_counter_that_stands_still_is_no_counter(monkeypatch):
    monkeypatch.setattr("nas.hardware.agent.energy.PATIENCE", 0.01)
    with pytest.raises(OSError, match="stands still"):
        tick(Still(), lambda: None)


def test_a_board_is_asked_through_the_gpu():
    assert Board(Gpu(Library(2500), None)).joules() == 2.5
