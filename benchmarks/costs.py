"""How true a breakdown by layer is, and how well a measured peak of memory repeats.

    python benchmarks/costs.py [--repeats 5] [--runtime NAME] [--out FILE]

By layer: chains of one heavy depthwise convolution among 1x1 convolutions and activations of two
microseconds each. The heavy layer's time is known from outside, as the difference of the whole
chain and the chain without it, timed interleaved in three processes. Beside it stand what `nas
profile --by-layer` says, and what the profiler's times say when they are only scaled to the
measured latency. With `--runtime torch` or `openvino` that part is done there, and kept by itself.

Memory: networks of the space, each measured several times over; the deviation of one measurement
(five fresh processes) and how often a later one lies within the interval of an earlier one.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import keep
from torch import nn

from nas.catalog import load_space
from nas.core.job import Workload
from nas.core.task import TaskSpec
from nas.deploy import forms
from nas.deploy.export import export
from nas.hardware.counting import count
from nas.hardware.device import Device, named
from nas.hardware.footprint import peak_memory
from nas.hardware.layers import profiled, timed
from nas.hardware.lease import Lease, default_folder
from nas.hardware.timing import measure
from nas.transforms.fold import fold

SIDE, CHANNELS = 16, 32
HEAVY = [(kernel, short) for kernel in (7, 15, 23) for short in (5, 30)]
TASK = TaskSpec("digits", (3, 32, 32), 10)


def chain(kernel: int | None, short: int) -> nn.Module:
    """A stem, a heavy layer or none, and so many pairs of short ones on a single pixel."""
    heavy: list[nn.Module] = []
    if kernel is not None:
        heavy = [nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, groups=CHANNELS)]
    pairs = [part for _ in range(short) for part in (nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Tanh())]
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 1), *heavy, nn.Hardtanh(), nn.AvgPool2d(SIDE), *pairs, nn.Flatten()
    ).eval()


def breakdown(kernel: int, short: int, folder: Path, device: Device) -> dict[str, Any]:
    """Microseconds of the heavy layer: from outside, broken down, and only scaled."""
    shape = (3, SIDE, SIDE)
    lease = Lease(default_folder(), device.seat)
    module = chain(kernel, short)
    written = forms.write(module, shape, folder / "with", device)
    other = forms.write(chain(None, short), shape, folder / "without", device)
    files = [written.path, other.path]
    whole, without = (
        m.value * 1e3 for m in measure(files, device, lease, processes=3, basis="benchmark")
    )
    profile = profiled(written.path, device, lease, Workload())
    assert not isinstance(profile, str), profile
    found = timed(count(module, shape), written.path, written.modules, profile, whole / 1e3)
    longest = max(k.microseconds for k in profile.kernels)
    return {
        "kernel": kernel, "short_layers": 2 * short, "whole_us": whole,
        "from_outside_us": whole - without,
        "by_layer_us": 1e3 * found["layers"]["1"]["latency_ms"],
        "scaled_only_us": longest * whole / profile.microseconds,
        "profiled_over_measured": found["by_layer"]["ratio"],
    }  # fmt: skip


def memory(number: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Several measurements of one network's peak."""
    device = named("cpu")
    lease = Lease(default_folder(), device.seat)
    space = load_space("largekernel").at(TASK)
    torch.manual_seed(0)
    module = space.build(space.sample(np.random.default_rng(number)).choices, TASK)
    path = folder / "net.onnx"
    exported = export(fold(module, TASK.input)[0], TASK.input, path)
    found = [peak_memory(path, device, lease, basis="benchmark") for _ in range(repeats)]
    peaks = [(m.value, m.low, m.high) for m in found if not isinstance(m, str)]
    values = [value for value, _, _ in peaks]
    inside = [low <= later[0] <= high
              for (_, low, high), later in itertools.combinations(peaks, 2)]  # fmt: skip
    return {
        "network": number, "file_mb": exported.bytes / 1e6, "peak_mb": float(np.mean(values)),
        "deviation": float(np.std(values, ddof=1) / np.mean(values)),
        "inside": int(sum(inside)), "of": len(inside),
    }  # fmt: skip


def main() -> None:
    """Prints both tables and keeps them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    usual = given.runtime == "onnxruntime"
    device = named("cpu").under(given.runtime)
    with tempfile.TemporaryDirectory() as folder:
        layers = [breakdown(k, n, Path(folder), device) for k, n in HEAVY]
        peaks = [memory(n, given.repeats, Path(folder)) for n in range(6)] if usual else []
    print("heavy layer, us        from outside   by layer   scaled only")
    for row in layers:
        name = f"{row['kernel']}x{row['kernel']} among {row['short_layers']}"
        print(f"{name:<22}{row['from_outside_us']:>13.1f}{row['by_layer_us']:>11.1f}"
              f"{row['scaled_only_us']:>14.1f}")  # fmt: skip
    errors = {
        name: float(np.median([abs(r[name] / r["from_outside_us"] - 1) for r in layers]))
        for name in ("by_layer_us", "scaled_only_us")
    }
    print("median error: " + ", ".join(f"{n} {100 * e:.1f} %" for n, e in errors.items()))
    for row in peaks:
        print(f"network {row['network']}: file {row['file_mb']:.2f} MB, peak {row['peak_mb']:.2f} "
              f"MB, deviation {100 * row['deviation']:.1f} %")  # fmt: skip
    inside, of = sum(r["inside"] for r in peaks), sum(r["of"] for r in peaks)
    print(f"later peaks within the 90 % interval of an earlier one: {inside} of {of}")
    document = {"layers": layers, "median_error": errors, "memory": peaks, "inside": [inside, of]}
    print(keep("costs" if usual else f"costs-{given.runtime}", document, given.out))


if __name__ == "__main__":
    main()
