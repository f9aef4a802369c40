"""What NVIDIA's management library says of a GPU, by ctypes: no package, no CUDA context."""

from __future__ import annotations

import ctypes
import os
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
SM, MEMORY = 1, 2  # nvmlClockType_t
POWER, THERMAL = 0, 1  # nvmlPerfPolicyType_t
# nvmlClocksEventReasons that hold a busy GPU's clock down.
REASONS = {
    0x2: "application clocks", 0x4: "power cap", 0x8: "hardware slowdown",
    0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown", 0x80: "power brake",
}  # fmt: skip


class _Violation(ctypes.Structure):
    """nvmlViolationTime_t."""

    _fields_ = (("reference", ctypes.c_ulonglong), ("violation", ctypes.c_ulonglong))


class Gpu:
    """One GPU of the library's. What it does not know is None, never zero."""

    def __init__(self, library: Any, handle: Any) -> None:
        self.library = library
        self.handle = handle

    def ask(self, function: str, *arguments: int, kind: Any = ctypes.c_uint) -> Any:
        """What a function writes to its last argument; None where the GPU or driver lacks it."""
        value = kind()
        try:
            code = getattr(self.library, function)(self.handle, *arguments, ctypes.byref(value))
        except AttributeError:
            return None
        return None if code else value if kind is _Violation else value.value

    def millijoules(self) -> int | None:
        """The board's energy since the driver was loaded (Volta and newer)."""
        found: int | None = self.ask("nvmlDeviceGetTotalEnergyConsumption", kind=ctypes.c_ulonglong)
        return found

    def state(self) -> dict[str, Any]:
        """Clocks, heat, power and what holds the clock down; times since the driver was loaded."""
        function = "nvmlDeviceGetCurrentClocksThrottleReasons"
        reasons = self.ask(function, kind=ctypes.c_ulonglong)
        held = [
            None if time is None else time.violation // 1_000_000
            for time in (
                self.ask("nvmlDeviceGetViolationStatus", policy, kind=_Violation)
                for policy in (POWER, THERMAL)
            )
        ]
        return {
            "sm_mhz": self.ask("nvmlDeviceGetClockInfo", SM),
            "max_sm_mhz": self.ask("nvmlDeviceGetMaxClockInfo", SM),
            "memory_mhz": self.ask("nvmlDeviceGetClockInfo", MEMORY),
            "celsius": self.ask("nvmlDeviceGetTemperature", 0),
            "milliwatts": self.ask("nvmlDeviceGetPowerUsage"),
            "limit_milliwatts": self.ask("nvmlDeviceGetEnforcedPowerLimit"),
            "throttled": None
            if reasons is None
            else [name for bit, name in REASONS.items() if reasons & bit],
            "power_held_ms": held[0],
            "heat_held_ms": held[1],
        }


def first_gpu(library: str | Any = LIBRARY) -> Gpu | None:
    """The GPU that a process sees as its first, or None where no driver shows one.

    `CUDA_VISIBLE_DEVICES` is obeyed, by number or UUID.
    """
    try:
        opened = ctypes.CDLL(library) if isinstance(library, str) else library
    except OSError:
        return None
    if opened.nvmlInit_v2():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    handle = ctypes.c_void_p()
    if visible.isdigit():
        code = opened.nvmlDeviceGetHandleByIndex_v2(
            ctypes.c_uint(int(visible)), ctypes.byref(handle)
        )
    else:
        code = opened.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(handle))
    return None if code else Gpu(opened, handle)
