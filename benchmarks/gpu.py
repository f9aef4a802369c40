"""The GPU of this machine, to be run where there is one: networks and large kernels in every form.

    python benchmarks/gpu.py [--quick]

Networks of the space and single depthwise convolutions (kernels 3 to 101 on maps of 7 to 112) are
timed by the ordinary measurement, between CUDA events: eager, compiled, as graphs, in float32 and
bfloat16. Clocks, temperature and what held the GPU back are in each record, energy where its
counter can be read. What fails has its reason in place of a number. Written are
`benchmarks/results/gpu-NAME.json`, and `gpu-NAME.csv` with the eager float32 convolutions for
`nas calibrate DEVICE --csv`.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.catalog import load_space
from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.core.task import TaskSpec
from nas.deploy import forms
from nas.hardware import runtimes
from nas.hardware.agent.fingerprint import fingerprint
from nas.hardware.device import Device, parse
from nas.hardware.energy import energy
from nas.hardware.lease import Lease, default_folder
from nas.hardware.timing import measure
from nas.transforms.fold import fold

FORMS = ("torch", "torch:compiled", "torch:graphs", "torch:compiled+graphs")
HALF = ("torch:bf16", "torch:bf16+compiled", "torch:bf16+graphs", "torch:channels_last+bf16+graphs")
OTHERS = ("torch:tf32+graphs", "tensorrt", "tensorrt:fp16", "tensorrt:bf16")
PRESETS = ("convnext_a", "convnext_t", "replknet_31b", "slak_t", "unireplknet_t")
KERNELS = (3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31, 41, 51, 71, 101)
SIDES = (7, 14, 28, 56, 112)
CHANNELS, BATCH = 128, 8
Row = dict[str, Any]


def main() -> int:
    """Measures, writes, says where."""
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="one network, six kernels")
    quick = arguments.parse_args().quick
    found = fingerprint()["accelerators"]
    if not found or not torch.cuda.is_available():
        what = "no NVIDIA device is seen here" if not found else "torch was built without CUDA"
        print(f"{what}\n  run this where there is one: nvidia-smi lists it", file=sys.stderr)
        return 2
    device = parse(f'kind = "cuda"\nnames = {json.dumps(found[:1])}', "gpu")
    rows = {
        "date": date.today().isoformat(),
        "device": found[0],
        "host": fingerprint(),
        "runtimes": runtimes.installed(),
        "networks": list(networks(device, PRESETS[:1] if quick else PRESETS)),
        "kernels": list(kernels(device, _shapes(quick), FORMS + HALF[:3])),
    }
    stem = Path(__file__).parent / "results" / f"gpu-{re.sub('[^a-z0-9]+', '-', found[0].lower())}"
    stem.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    operators(stem.with_suffix(".csv"), rows["kernels"])
    print(f"written: {stem}.json, {stem}.csv")
    return 0


def _shapes(quick: bool) -> list[tuple[int, int]]:
    """Kernel and side: every kernel of which more than the central tap meets data."""
    every = [(k, side) for side in SIDES for k in KERNELS if k <= 2 * side - 1]
    return every[:: len(every) // 6] if quick else every


def networks(device: Device, presets: Sequence[str], side: int = 224) -> Iterator[Row]:
    """Each network in each form, for one image: latency, and energy where it can be read."""
    task = TaskSpec("benchmark", (3, side, side), 1000)
    space = load_space("largekernel").at(task)
    for preset in presets:
        module, _ = fold(space.build(space.preset(preset).choices, task), task.input)
        for text in FORMS + HALF + OTHERS:
            row: Row = {"network": preset, "side": side, "batch": 1, "runtime": text}
            with tempfile.TemporaryDirectory() as folder:
                yield row | _network(module, task.input, Path(folder), device, text)


def _network(
    module: nn.Module, shape: tuple[int, ...], folder: Path, device: Device, text: str
) -> Row:
    lease = Lease(default_folder(), device.name)
    try:
        under = device.under(text)
        path = forms.write(module, shape, folder / "network", under).path
        [timing] = measure([path], under, lease, processes=3, basis="untrained form")
        spent = energy(path, under, lease, basis="untrained form")
    except NasError as error:  # not installed, or not traced in this precision
        return {"error": str(error)}
    return {"latency_ms": _plain(timing), "energy_mj": _plain(spent)}


def kernels(
    device: Device, shapes: Sequence[tuple[int, int]], texts: Sequence[str]
) -> Iterator[Row]:
    """Depthwise convolutions of 128 channels on 8 examples, all of a form in one session."""
    lease = Lease(default_folder(), device.name)
    for text in texts:
        under = device.under(text)
        for side in sorted({side for _, side in shapes}):
            sizes = [k for k, s in shapes if s == side]
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                files = [
                    forms.write(_depthwise(k), (CHANNELS, side, side), folder / f"k{k}", under).path
                    for k in sizes
                ]
                found = measure(files, under, lease, Workload(BATCH), basis="single operator")
            for size, timing in zip(sizes, found, strict=True):
                yield {"op": "conv", "batch": BATCH, "inputs": CHANNELS, "outputs": CHANNELS,
                       "kernel": size, "side": side, "groups": CHANNELS, "runtime": text,
                       "latency_ms": _plain(timing)}  # fmt: skip


def _depthwise(kernel: int) -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, groups=CHANNELS).eval()


def _plain(found: Measurement | str) -> Row:
    """A measurement without its samples, or why there is none."""
    if isinstance(found, str):
        return {"error": found}
    record = dict(found.record)
    for session in record.get("sessions", []):
        session.pop("samples", None)
    return replace(found, record=record).to_json()


def operators(path: Path, rows: Sequence[Row]) -> None:
    """The eager float32 convolutions as `nas calibrate --csv` reads them."""
    names = ["op", "batch", "inputs", "outputs", "kernel", "side", "groups", "latency_ms"]
    kept = [r for r in rows if r["runtime"] == "torch" and "value" in r["latency_ms"]]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(r | {"latency_ms": r["latency_ms"]["value"]} for r in kept)


if __name__ == "__main__":
    sys.exit(main())
