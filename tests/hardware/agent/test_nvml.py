import ctypes
import shutil
import subprocess

import pytest

from nas.hardware.agent.nvml import Gpu, first_gpu

# Stands for the library: a GPU at number 1 alone, whose clock is held down by its power cap.
SOURCE = r"""
#include <string.h>
typedef struct { unsigned long long reference, violation; } violation;
static int board;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = &board; return i == 1 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char *u, void **h) { *h = &board; return strcmp(u, "GPU-7"); }
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *v)
{ *v = 123456789012ULL; return h == &board ? 0 : 1; }
int nvmlDeviceGetClockInfo(void *h, int t, unsigned *v) { *v = t == 1 ? 1410 : 1593; return 0; }
int nvmlDeviceGetMaxClockInfo(void *h, int t, unsigned *v) { *v = t == 1 ? 1980 : 0; return 0; }
int nvmlDeviceGetTemperature(void *h, int s, unsigned *v) { *v = 61; return s; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *v) { *v = 0; return 3; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, unsigned long long *v)
{ *v = 0x1 | 0x4 | 0x40; return 0; }
int nvmlDeviceGetViolationStatus(void *h, int p, violation *v)
{ v->reference = 9; v->violation = p == 0 ? 7000000ULL : 0; return 0; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(SOURCE)
    made = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-o", str(made), str(folder / "nvml.c")]
    subprocess.run(command, check=True, timeout=60)
    return str(made)


def test_clocks_heat_and_throttling_through_a_real_library(library, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    gpu = first_gpu(library)
    assert gpu is not None
    assert gpu.millijoules() == 123456789012
    assert gpu.state() == {
        "sm_mhz": 1410, "max_sm_mhz": 1980, "memory_mhz": 1593, "celsius": 61,
        "milliwatts": None,  # refused
        "limit_milliwatts": None,  # not in this library
        "throttled": ["power cap", "hardware thermal slowdown"],
        "power_held_ms": 7, "heat_held_ms": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("visible", "found"), [("0", False), ("1", True), ("GPU-7", True), ("", False), ("-1", False)]
)
def test_the_visible_devices_are_obeyed(library, monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert (first_gpu(library) is not None) == found


def test_no_library_no_gpu():
    assert first_gpu("libno-such-library.so.1") is None


class Broken:
    """A library that is there while the driver is not."""

    def nvmlInit_v2(self):
        return 9


def test_no_driver_no_gpu():
    assert first_gpu(Broken()) is None


def test_what_a_gpu_does_not_know_is_absent():
    nothing = Gpu(object(), ctypes.c_void_p())
    assert nothing.millijoules() is None
    assert set(nothing.state().values()) == {None}
