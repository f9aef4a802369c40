"""The energy that an image costs, measured where the hardware keeps a counter; nowhere else.

Idle and busy windows alternate; what a call costs is the busy window's energy less what the same
time takes idle, by the idle windows on both sides of it. The counters are those of NVIDIA's
library for a GPU and RAPL for a processor (`nas.hardware.agent.energy`), which count the whole
board or package: what else ran meanwhile is in the number, so the device is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware.agent.energy import POWERCAP, counter
from nas.hardware.device import Device, attached
from nas.hardware.lease import Lease
from nas.hardware.probe import conditions, probe, t90

WINDOW_S = {"cpu": 1.0, "cuda": 2.0}  # a GPU's counter ticks ten times a second, a processor's 1000
ROUNDS = 5
Window = Sequence[float]  # joules, seconds, calls


def unreadable(device: Device, powercap: str = POWERCAP) -> str | None:
    """Why no energy can be measured on a device; None where it can."""
    if not attached(device):
        return f"{device.name} ({device.title}) is not attached here, and energy is not predicted"
    if device.address is not None:
        return None  # the agent there says it for each file
    try:
        counter(device.kind, powercap)
    except OSError as error:
        return str(error)
    return None


def energy(
    path: Path,
    device: Device,
    lease: Lease,
    workload: Workload | None = None,
    window_s: float | None = None,
    powercap: str = POWERCAP,
    *,
    basis: str,
) -> Measurement | str:
    """`energy_mj` of a file: millijoules an image above idle, or why there is no number.

    The mean of five rounds; another five fall between `low` and `high` with 90 % (Student's t).
    What cannot be told from idle is no number. Raises: nothing; a reason is returned.
    """
    workload = workload or Workload()
    window_s = window_s or WINDOW_S[device.kind]
    seconds = 50 + device.engine.load_s + (2 * ROUNDS + 2) * (window_s + 4)
    session = probe(
        path, device, lease, workload, mode="energy", window_s=window_s, rounds=ROUNDS,
        powercap=powercap, seconds=seconds,
    )  # fmt: skip
    if isinstance(session, str):
        return session
    found = session.results[0]
    windows: list[Window] = found["windows"]
    costs = [1e3 * cost / workload.batch for cost in above_idle(windows)]
    value, se = float(np.mean(costs)), float(np.std(costs, ddof=1)) / len(costs) ** 0.5
    half = t90(len(costs) - 1) * se
    if value <= half:
        return f"its energy cannot be told from idle: {value:.3g} mJ +- {half:.3g} an image"
    record = {
        **conditions(session, device, workload),
        "counter": found["counter"],
        "window_s": window_s,
        "rounds_mj": [round(c, 6) for c in costs],
        "idle_w": [round(joules / seconds, 3) for joules, seconds, _ in windows[::2]],
        "busy_w": [round(joules / seconds, 3) for joules, seconds, _ in windows[1::2]],
        "call_ms": [round(1e3 * seconds / calls, 5) for _, seconds, calls in windows[1::2]],
    }
    wide = half * 2**0.5  # a repeat and this one are both in doubt
    return Measurement(
        "energy_mj", value, "mJ", max(0.0, value - wide), value + wide, se,
        len(costs), "measured", basis, record,
    )  # fmt: skip


def above_idle(windows: Sequence[Window]) -> list[float]:
    """Joules a call of each busy window, above the mean idle power on both sides of it.

    Windows are idle, busy, idle, busy, ..., idle. Here 2 W idle, then 5 J in 1 s for 3 calls:

    >>> above_idle([(2.0, 1.0, 1), (5.0, 1.0, 3), (4.0, 2.0, 1)])
    [1.0]
    """
    costs = []
    for place in range(1, len(windows) - 1, 2):
        joules, seconds, calls = windows[place]
        idle = [windows[i][0] / windows[i][1] for i in (place - 1, place + 1)]
        costs.append((joules - sum(idle) / 2 * seconds) / calls)
    return costs
