"""Published timings on named GPUs, as kernels and networks of this package.

`gpu_ops`: single fp32 operators of torch 2.1, eager, by sitar-lab/NeuSight (MIT licence).
`ofa_latency`: whole OFA-MobileNetV3 networks, eager, by the authors of HELP (MIT licence).
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.hardware.device import Device, Fact
from nas.hardware.prediction import analytic
from nas.hardware.prediction.kernels import Kernel

OPERATORS = ("conv", "linear", "bmm", "ln", "softmax", "add", "mul", "relu", "gelu")
# Cards of one kind are one device; the table has convolutions of one A100 and the rest of another.
DEVICES = {
    "a100": ("NVIDIA A100 80GB PCIe", "NVIDIA A100-PCIE-40GB"),
    "v100": ("Tesla V100-PCIE-32GB",),
    "t4": ("Tesla T4",),
    "p100": ("Tesla P100-PCIE-16GB",),
    "p4": ("Tesla P4",),
}
RECALLED = "computed from the card's published cores and clock; not checked against a datasheet"
# Cards of the table of networks that have no profile: TFLOP/s, GB/s, multiprocessors.
CARDS = {
    "2080ti": (13.45, 616.0, 68),
    "titan_rtx": (16.3, 672.0, 72),
    "titan_xp": (12.15, 547.6, 30),
}


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def device(folder: Path, name: str) -> Device:
    """A card of the table of operators, with the peaks that the table's authors list."""
    listed = json.loads((folder / "gpu_ops" / "device_configs.json").read_text())
    found = next(v for v in listed.values() if v["Device"] == DEVICES[name][-1])
    return _device(name, found["SingleFLOPs"] / 1e3, found["Mem_Bw"], found["Num_Sm"], "NeuSight")


def card(name: str) -> Device:
    """A card of the table of networks that has no profile here."""
    return _device(name, *CARDS[name], RECALLED)


def _device(name: str, tflops: float, bandwidth: float, units: int, source: str) -> Device:
    facts = {"fp32_tflops": tflops, "bandwidth_gbs": bandwidth, "multiprocessors": units}
    known = source != RECALLED
    return Device(
        name, name, "cuda", "torch", facts={k: Fact(v, source, known) for k, v in facts.items()}
    )


def operators(folder: Path, op: str) -> dict[str, list[tuple[Kernel, float]]]:
    """Kernels of an operator with their microseconds, by device."""
    found: dict[str, list[tuple[Kernel, float]]] = {name: [] for name in DEVICES}
    named = {card: name for name, cards in DEVICES.items() for card in cards}
    for row in _rows(folder / "gpu_ops" / f"{op}.csv.gz"):
        name = named.get(row["Device"])
        if name is not None:
            found[name].append((_kernel(op, row), 1e3 * float(row["latency_ms"])))
    return found


def _kernel(op: str, row: dict[str, str]) -> Kernel:
    def number(column: str) -> int:
        return int(float(row[column]))

    match op:
        case "conv":
            return analytic.conv(
                number("B"), number("Input_Channel"), number("Output_Channel"),
                number("Kernel_Size"), number("Input_Size"), number("Stride"),
            )  # fmt: skip
        case "linear":
            return analytic.linear(number("B") * number("M"), number("N"), number("K"))
        case "bmm":
            return analytic.bmm(number("B"), number("M"), number("N"), number("K"))
        case "ln":
            return analytic.norm(number("B"), number("H"))
        case "softmax":
            return analytic.softmax(number("B"), number("H"))
    count = number("B") * number("H")
    return analytic.elementwise(op.title(), count, inputs=2 if op in ("add", "mul") else 1)


# --- whole networks ----------------------------------------------------------------------------

STAGES = (  # output width, stride, squeeze-excitation, hard swish
    (24, 2, False, False), (40, 2, True, False), (80, 2, False, True), (112, 1, True, True),
    (160, 2, True, True),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A network of the OFA table; `ms` is by card and batch."""

    side: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    ms: dict[str, float]


def networks(folder: Path) -> list[Row]:
    """Every network of the OFA table."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(float(part)) for part in text.split("-"))

    return [
        Row(
            int(row["r"]), numbers(row["d"]), numbers(row["ks"]), numbers(row["e"]),
            {k[4:-3]: float(v) for k, v in row.items() if k.startswith("lat_") and v},
        )
        for row in _rows(folder / "ofa_latency" / "ofa_mbv3.csv.gz")
    ]  # fmt: skip


def ofa(row: Row, batch: int) -> list[Kernel]:
    """The kernels of an OFA-MobileNetV3 run eagerly: norms and activations are kernels too."""
    return list(_ofa(row, batch))


def _ofa(row: Row, batch: int) -> Iterator[Kernel]:
    side = -(-row.side // 2)
    yield analytic.conv(batch, 3, 16, 3, row.side, 2)
    yield from _after(batch * 16 * side**2, hard=True)
    yield from _block(batch, 16, 16, 16, 3, side, 1, False, False)
    width, place = 16, 0
    for stage, (outputs, stride, excited, hard) in enumerate(STAGES):
        for i in range(row.depths[stage]):
            kernel, expansion = row.kernels[place + i], row.expansions[place + i]
            step = stride if i == 0 else 1
            middle = round(width * expansion / 8) * 8
            yield from _block(batch, width, middle, outputs, kernel, side, step, excited, hard)
            side, width = -(-side // step), outputs
        place += 4
    yield analytic.conv(batch, 160, 960, 1, side)
    yield from _after(batch * 960 * side**2, hard=True)
    yield analytic.mean(batch * 960, side**2)
    yield analytic.conv(batch, 960, 1280, 1, 1)
    yield from _hard(batch * 1280)
    yield analytic.linear(batch, 1000, 1280)


def _block(
    batch: int, inputs: int, middle: int, outputs: int, kernel: int, side: int, stride: int,
    excited: bool, hard: bool,
) -> Iterator[Kernel]:  # fmt: skip
    """Expand, depthwise, squeeze-excite, project, add."""
    after = -(-side // stride)
    if middle != inputs:
        yield analytic.conv(batch, inputs, middle, 1, side)
        yield from _after(batch * middle * side**2, hard)
    yield analytic.conv(batch, middle, middle, kernel, side, stride, groups=middle)
    yield from _after(batch * middle * after**2, hard)
    if excited:
        reduced = max(8, round(middle / 4 / 8) * 8)
        yield analytic.mean(batch * middle, after**2)
        yield analytic.conv(batch, middle, reduced, 1, 1)
        yield analytic.elementwise("Relu", batch * reduced)
        yield analytic.conv(batch, reduced, middle, 1, 1)
        yield from _hard(batch * middle, product=False)
        yield analytic.elementwise("Mul", batch * middle * after**2)
    yield analytic.conv(batch, middle, outputs, 1, after)
    yield analytic.elementwise("BatchNormalization", batch * outputs * after**2)
    if stride == 1 and inputs == outputs:
        yield analytic.elementwise("Add", batch * outputs * after**2, inputs=2)


def _after(count: int, hard: bool) -> Iterator[Kernel]:
    """Batch norm and activation."""
    yield analytic.elementwise("BatchNormalization", count)
    if hard:
        yield from _hard(count)
    else:
        yield analytic.elementwise("Relu", count)


def _hard(count: int, product: bool = True) -> Iterator[Kernel]:
    """Hard swish or, without the product, hard sigmoid, as torch runs them step by step."""
    for op in ("Add", "Clip", "Div"):
        yield analytic.elementwise(op, count)
    if product:
        yield analytic.elementwise("Mul", count, inputs=2)
