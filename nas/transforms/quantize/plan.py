"""Which layers have which number format, and where those layers are in an exported file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto

SECTIONS = 4
MULTIPLYING = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Format:
    """A way to keep a layer's numbers.

    Args:
        bits: of a weight in the file.
        how: `static`: weights and activations are whole codes, with ranges from examples;
            `dynamic`: the activations' ranges are found in each call; `weights`: only those are
            codes; `float`: shorter floating-point numbers.
        runs: what a runtime without a kernel for it computes in; itself where None.
    """

    bits: int
    how: str
    runs: str | None = None


FORMATS: Mapping[str, Format] = {
    "fp32": Format(32, "float"),
    "fp16": Format(16, "float", "fp32"),
    "bf16": Format(16, "float", "fp32"),
    "fp8": Format(8, "float", "fp32"),
    "int8": Format(8, "static", "fp32"),
    "int6": Format(6, "static", "int8"),
    "int4": Format(4, "static", "int8"),
    "int2": Format(2, "static", "int8"),
    "int8-dynamic": Format(8, "dynamic", "fp32"),
    "int8-weights": Format(8, "weights", "fp32"),
    "int4-weights": Format(4, "weights", "fp32"),
}
EIGHT = {"int6": "int8", "int4": "int8", "int2": "int8", "int4-weights": "int8-weights"}
LINEAR = ("int8-dynamic",)  # of products of matrices alone: as convolutions they run 6 to 16 times
# slower than in fp32 (onnxruntime 1.31, one thread)
GAINING = 2048  # rows, outputs and inputs of a product from which fp8 is faster, by torchao's own
# roofline; of one that is no cube we compare the multiply-adds
LONG = 16  # rows of a product from which onnxruntime makes short weights long again in every call


@dataclass(frozen=True)
class Plan:
    """What becomes of the layers that multiply by weights.

    Args:
        formats: of each quarter of the multiply-adds, in the order in which they run.
        depthwise: whether depthwise convolutions take it too; few runtimes have a kernel for them.
        ends: whether the first and the last layer do too.
        calibration: `minmax`, or `percentile` (99.99 % of the values seen are inside).
        method: `ptq`: steps are chosen after training; `qat`: they are learned (LSQ); `switching`:
            one training for all bits (Double Rounding).
        average: bits of a weight over all int8 layers, divided by `allocator`; None: as `formats`.
        allocator: `hessian`, or `adapt` for AdaPT's.
    """

    formats: tuple[str, ...] = ("int8",) * SECTIONS
    depthwise: bool = False
    ends: bool = True
    calibration: str = "minmax"
    method: str = "ptq"
    average: float | None = None
    allocator: str = "hessian"


@dataclass(frozen=True)
class Layer:
    """A node that multiplies by weights: its multiply-adds for one example, and its section.

    `product` is the matrix product of one example and one group: rows, outputs, inputs.
    """

    node: str
    weight: str
    macs: float
    section: int
    depthwise: bool
    end: bool
    linear: bool = True
    product: tuple[int, int, int] = (1, 1, 1)


def layers(proto: ModelProto) -> list[Layer]:
    """The nodes that multiply by weights, in the order in which they run.

    Sections are quarters of the sum of multiply-adds; a layer belongs where its middle lies.
    """
    inferred = onnx.shape_inference.infer_shapes(proto)
    shapes = {
        value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.graph.value_info, *inferred.graph.output]
    }
    weights = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    rows = []
    for node in proto.graph.node:
        weight = next((n for n in node.input[1:2] if n in weights), None)
        if node.op_type not in MULTIPLYING or weight is None:
            continue
        made = shapes.get(node.output[0], [1])
        places = math.prod(made[2:] if node.op_type == "Conv" else made[1:-1])
        outputs = weights[weight][0] if node.op_type == "Conv" else made[-1]
        inputs = math.prod(weights[weight]) // outputs
        rows.append((node, weight, (places, outputs // _groups(node), inputs)))
    macs = [float(math.prod(weights[w]) * product[0]) for _, w, product in rows]
    sections = sections_of(macs)
    return [
        Layer(
            node.name, weight, macs[i], sections[i], _depthwise(node, weights[weight]),
            i in (0, len(rows) - 1), node.op_type != "Conv", product,
        )
        for i, (node, weight, product) in enumerate(rows)
    ]  # fmt: skip


def sections_of(macs: Sequence[float]) -> list[int]:
    """The quarter of all multiply-adds in which the middle of each layer lies.

    >>> sections_of([1.0, 1.0, 2.0, 4.0])
    [0, 0, 1, 3]
    """
    total, done, found = sum(macs) or 1.0, 0.0, []
    for own in macs:
        found.append(min(SECTIONS - 1, int(SECTIONS * (done + own / 2) / total)))
        done += own
    return found


def _depthwise(node: NodeProto, weight: Sequence[int]) -> bool:
    groups = _groups(node)
    return groups > 1 and groups == weight[0]


def _groups(node: NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def format_of(layer: Layer, plan: Plan, batch: int | None = None) -> tuple[str, str | None]:
    """A layer's format, and where it is fp32, why; the first and the last keep 8 bits at least.

    With the `batch` of a study that counts time alone, fp8 and short weights are left to products
    that gain by them.
    """
    wanted = plan.formats[layer.section]
    why = None
    if layer.end:
        wanted = EIGHT.get(wanted, wanted)
    if wanted == "fp32":
        why = f"section {layer.section} is fp32"
    elif layer.end and not plan.ends:
        why = "the first and the last layer are fp32"
    elif layer.depthwise and not plan.depthwise:
        why = "depthwise convolutions are fp32"
    elif wanted in LINEAR and not layer.linear:
        why = f"{wanted} convolutions are slower than fp32 ones"
    elif wanted == "fp8" and batch is not None:
        why = _too_small(layer, batch)
    elif FORMATS[wanted].how == "weights" and batch is not None:
        why = _too_long(layer, wanted, batch)
    return ("fp32", why) if why else (wanted, None)


def _too_small(layer: Layer, batch: int) -> str | None:
    """Why fp8 makes a layer no faster with so many examples in a call, or None."""
    rows, outputs, inputs = layer.product
    if batch * rows * outputs * inputs >= GAINING**3:
        return None
    return (
        f"fp8 gains no time below {GAINING} x {GAINING} x {GAINING}: with {batch} in a call its "
        f"product is M={batch * rows}, N={outputs}, K={inputs}"
    )


def _too_long(layer: Layer, wanted: str, batch: int) -> str | None:
    """Why short weights make a layer no faster with so many examples in a call, or None."""
    if not layer.linear:
        return f"{wanted} gains no time: no kernel of convolutions"
    rows = batch * layer.product[0]
    if rows < LONG:
        return None
    return f"{wanted} gains no time from {LONG} rows on: with {batch} in a call there are {rows}"


def kept_only(formats: Collection[str], kernels: Collection[str], runtime: str) -> list[str]:
    """A line for each format that saves bytes and no time, on a device with these kernels.

    >>> kept_only(["int8", "int4"], ["int8"], "onnxruntime")
    ['int4 is storage only: onnxruntime computes it in int8']
    """
    lines = []
    for name in sorted(set(formats) - {"fp32"} - set(kernels)):
        instead = FORMATS[name].runs
        known = instead == "fp32" or instead in kernels
        lines.append(
            f"{name} is storage only: {runtime} computes it in {instead if known else 'fp32'}"
        )
    return lines
