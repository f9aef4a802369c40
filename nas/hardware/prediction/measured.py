"""Measurements that someone else made, from a CSV file: whole networks, or single operators.

Networks: columns `file` (an ONNX file, relative to the CSV) and `latency_ms`, optionally `batch`.
Operators: columns `op` and `latency_ms`, and the sizes that the operator has:

    conv                    batch, inputs, outputs, kernel, side, stride, groups
    linear, bmm             m, n, k (bmm: b too)
    norm, softmax, mean     rows, width
    any element-wise ONNX operator (Relu, Add, ...)    count, inputs
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.core.errors import NasError, unknown
from nas.core.job import Workload
from nas.hardware.prediction import analytic
from nas.hardware.prediction.kernels import ELEMENTWISE, Form, Kernel, lower

# Operator -> its function, the columns it must have, those it may have with what they default to.
_OPERATORS: Mapping[str, tuple[Callable[..., Kernel], tuple[str, ...], Mapping[str, int]]] = {
    "conv": (
        analytic.conv,
        ("batch", "inputs", "outputs", "kernel", "side"),
        {"stride": 1, "groups": 1},
    ),
    "linear": (analytic.linear, ("m", "n", "k"), {}),
    "bmm": (analytic.bmm, ("b", "m", "n", "k"), {}),
    "norm": (analytic.norm, ("rows", "width"), {}),
    "softmax": (analytic.softmax, ("rows", "width"), {}),
    "mean": (analytic.mean, ("rows", "width"), {}),
}


@dataclass(frozen=True)
class Measured:
    """What a CSV file holds: networks as their kernels, or single kernels; milliseconds of each."""

    networks: tuple[tuple[Kernel, ...], ...]
    operators: tuple[Kernel, ...]
    latencies_ms: tuple[float, ...]


def read(path: Path, form: Form, native: bool = False) -> Measured:
    """The measurements of a CSV file. Raises: NasError naming the line and what it lacks."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets mark the beginning
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NasError(f"cannot read {path}: {error}", "give a CSV file with a header") from None
    if "latency_ms" not in columns or not columns & {"file", "op"}:
        raise NasError(
            f"{path} has the columns {', '.join(sorted(columns)) or 'none'}",
            "networks need  file,latency_ms  and operators  op,latency_ms  and their sizes",
        )
    if not rows:
        raise NasError(f"{path} has a header and no rows", "add a row for each that was measured")
    times = tuple(_positive(path, i, row, "latency_ms") for i, row in enumerate(rows))
    if "file" in columns:
        networks = tuple(_network(path, i, row, form, native) for i, row in enumerate(rows))
        return Measured(networks, (), times)
    return Measured((), tuple(_operator(path, i, row) for i, row in enumerate(rows)), times)


def _network(
    path: Path, place: int, row: Mapping[str, str], form: Form, native: bool
) -> tuple[Kernel, ...]:
    batch, name = _whole(path, place, row, "batch", 1), (row["file"] or "").strip()
    if not (path.parent / name).is_file():
        raise NasError(
            f"line {place + 2} of {path}: no file {name!r}",
            f"name an ONNX file, as it is called from {path.parent.absolute()}",
        )
    return lower(path.parent / name, form, Workload(batch), native).kernels


def _operator(path: Path, place: int, row: Mapping[str, str]) -> Kernel:
    op = (row["op"] or "").strip()
    if op in ELEMENTWISE:
        count, inputs = (_whole(path, place, row, *c) for c in (("count",), ("inputs", 1)))
        return analytic.elementwise(op, count, inputs)
    if op not in _OPERATORS:
        raise unknown(f"operator in line {place + 2} of {path}", op, [*_OPERATORS, *ELEMENTWISE])
    make, needed, optional = _OPERATORS[op]
    sizes = {name: _whole(path, place, row, name) for name in needed}
    sizes |= {name: _whole(path, place, row, name, value) for name, value in optional.items()}
    return make(**sizes)


def _whole(
    path: Path, place: int, row: Mapping[str, str], name: str, default: int | None = None
) -> int:
    value = _positive(path, place, row, name, default)
    if value != int(value):
        raise NasError(f"line {place + 2} of {path}: {name} = {value:g}", f"{name} is whole")
    return int(value)


def _positive(
    path: Path, place: int, row: Mapping[str, str], name: str, default: float | None = None
) -> float:
    text = (row.get(name) or "").strip()
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise NasError(
            f"line {place + 2} of {path}: {name} = {text!r}", f"{name} is a number above 0"
        )
    return value
