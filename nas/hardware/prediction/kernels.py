"""A network as the list of kernels that its runtime launches: what each computes and moves.

Kernels are classed by the implementation the library dispatches to, not by the operator's name
alone: a depthwise convolution of 31x31 is not a larger one of 3x3 but another routine (the NCHW
cliff of oneDNN between kernels 13 and 15, the missing fast path on GPUs), and a layout that the
runtime chose is part of the class. An operator that no rule covers is listed by name and number,
never taken as free.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from onnx import NodeProto, numpy_helper

from nas.core.architecture import digest
from nas.core.job import Workload
from nas.hardware.prediction.lowering import Graph, attributes, lowered

Form = Literal[
    "onnxruntime", "torch eager", "torch eager, channels last", "torch compiled",
    "torch compiled, channels last", "tensorrt",
]  # fmt: skip
LAST = ", channels last"

# Operations for each number written; a transcendental function is about ten of them.
_SIMPLE = """
    Abs Add And BatchNormalization Cast Ceil Clip DequantizeLinear Div Equal Floor Greater
    GreaterOrEqual HardSigmoid HardSwish LeakyRelu Less LessOrEqual Max Min Mul Neg Not Or PRelu
    QLinearAdd QLinearLeakyRelu QLinearMul QuantizeLinear Reciprocal Relu Round Sqrt Sub Sum Where
"""
_TRANSCENDENTAL = """
    BiasGelu Celu Cos Elu Erf Exp FastGelu Gelu Log Mish Pow QLinearSigmoid QuickGelu Selu Sigmoid
    Silu Sin Softplus Softsign Tanh
"""
_MOVING = """
    Concat ConstantOfShape DepthToSpace Expand Gather GatherElements GatherND Pad QLinearConcat
    Range ReorderInput ReorderOutput ScatterElements ScatterND Slice SpaceToDepth Split Tile
    Transpose Trilu
"""
ELEMENTWISE = dict.fromkeys(_SIMPLE.split(), 1) | dict.fromkeys(_TRANSCENDENTAL.split(), 10)
NORMS = {"LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization",
         "InstanceNormalization", "GroupNormalization", "RMSNormalization", "LpNormalization",
         "GroupNorm", "MeanVarianceNormalization"}  # fmt: skip
SOFTMAX = {"Softmax", "LogSoftmax", "QLinearSoftmax"}
REDUCE = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd",
          "ReduceSumSquare", "ReduceLogSumExp", "GlobalAveragePool", "GlobalMaxPool", "ArgMax",
          "ArgMin", "QLinearGlobalAveragePool", "QLinearReduceMean", "CumSum"}  # fmt: skip
POOLS = {"AveragePool", "MaxPool", "LpPool", "QLinearAveragePool"}
RESIZE = {"Resize", "Upsample", "GridSample"}
COPIES = set(_MOVING.split())
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Dropout", "Constant",
         "Size"}  # fmt: skip
IMAGES = ("conv", "pointwise", "depthwise", "grouped", "transposed", "pool", "resize")
TORCH_VIEWS = VIEWS | {"Transpose", "Split", "Slice", "Expand"}
CONVS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
GEMMS = {"Gemm": 1, "FusedGemm": 1, "QGemm": 3, "MatMul": 1, "FusedMatMul": 1, "MatMulInteger": 1,
         "QLinearMatMul": 3, "DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One launch of one routine.

    Args:
        name: the value it writes.
        op: the operator, or the operators joined by `+` where they were fused.
        family: the routine's class: `conv.3x3`, `depthwise.large`, `gemm`, `elementwise.gelu`, ...
        dtype: of what it computes with: `fp32`, `int8`, ...
        layout: `nchw`, `nhwc` where channels come last, `nchwc` where they are blocked.
        sizes: what its speed depends on, by name; each at least 1.
        flops: operations, a multiply-add being two.
        bytes_read, bytes_written, bytes_weights: what it moves, constants apart.
        signature: names everything its duration depends on; two kernels with one signature are one.
    """

    name: str
    op: str
    family: str
    dtype: str
    layout: str
    sizes: Mapping[str, int]
    flops: float
    bytes_read: int
    bytes_written: int
    bytes_weights: int
    signature: str

    @property
    def kind(self) -> str:
        """The class that efficiencies are fitted for: family, type and layout."""
        return f"{self.family}/{self.dtype}/{self.layout}"

    @property
    def bytes(self) -> int:
        """All that it moves."""
        return self.bytes_read + self.bytes_written + self.bytes_weights


@dataclass(frozen=True)
class Lowered:
    """A network's kernels in order, the views between them, and what no rule covers.

    `nodes` are the operators behind each kernel, in the same order.
    """

    form: Form
    kernels: tuple[Kernel, ...]
    views: int
    unknown: Mapping[str, int]
    graph: Graph = field(compare=False, repr=False)
    nodes: tuple[tuple[NodeProto, ...], ...] = field(compare=False, repr=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products."""
        heavy = ("conv", "pointwise", "depthwise", "grouped", "transposed", "gemm", "bmm")
        return round(sum(k.flops for k in self.kernels if k.family.startswith(heavy)) / 2)


def lower(path: Path, form: Form, workload: Workload | None = None, native: bool = True) -> Lowered:
    """The kernels of an exported file under a runtime.

    `onnxruntime` is asked for its own optimised graph (`native` False leaves out the layouts of
    this host's processor, for another's). `torch eager` launches one kernel an operator, `torch
    compiled` fuses element-wise work into what it follows, and `tensorrt` besides makes one 8-bit
    kernel of an operator and the conversions around it. Where channels come last, so do they in the
    class of every kernel that works on images. Raises: NasError where the file cannot be
    lowered.
    """
    if form == "onnxruntime":
        graph = lowered(path, workload, "native" if native else "fused")
        groups = [(node,) for node in graph.nodes if node.op_type not in VIEWS]
        views = len(graph.nodes) - len(groups)
    else:
        graph = lowered(path, workload, "fused" if form == "tensorrt" else "folded")
        groups, views = _torch_groups(graph, compiled=not form.startswith("torch eager"))
    kernels, kept, unknown = [], [], Counter[str]()
    for group in groups:
        kernel = _kernel(graph, group, form.endswith(LAST))
        if kernel is None:
            unknown.update(node.op_type for node in group)
        else:
            kernels.append(kernel)
            kept.append(group)
    return Lowered(form, tuple(kernels), views, dict(unknown), graph, tuple(kept))


# --- one operator ------------------------------------------------------------------------------


def _kernel(graph: Graph, group: Sequence[NodeProto], images_last: bool = False) -> Kernel | None:
    """The kernel of operators that run as one; None where a rule or a shape is missing.

    `images_last`: torch was given channels last, which the file does not say.
    """
    described = [_work(graph, node) for node in group]
    written = {name for node in group for name in node.output}
    if any(d is None for d in described) or not graph.outputs(group[-1]):
        return None
    # The heaviest part names the class of what was fused with it.
    family, sizes, _ = max((d for d in described if d), key=lambda d: (_rank(d[0]), d[2]))
    read = {n for node in group for n in node.input if n in graph.values and n not in written}
    inputs = [graph.values[name] for name in sorted(read)]
    outputs = [v for node in group[-1:] for v in graph.outputs(node)]
    blocked = any(node.domain.endswith("nchwc") for node in group)
    given = images_last and family.startswith(IMAGES)
    last = given or any(_channels_last(node) for node in group)
    return Kernel(
        name=group[-1].output[0],
        op="+".join(node.op_type for node in group),
        family=family,
        dtype=_dtype(graph, group[0]),
        layout="nchwc" if blocked else "nhwc" if last else "nchw",
        sizes={name: max(1, size) for name, size in sizes.items()},
        flops=sum(d[2] for d in described if d),
        bytes_read=sum(v.bytes for v in inputs if not v.constant),
        bytes_written=sum(v.bytes for v in outputs),
        bytes_weights=sum(v.bytes for v in inputs if v.constant),
        signature=digest([_described(graph, n) for n in group] + ["nhwc"] * given)[:16],
    )


def _rank(family: str) -> int:
    return 0 if family.startswith(("elementwise", "copy")) else 1


Work = tuple[str, dict[str, int], float]


def _work(graph: Graph, node: NodeProto) -> Work | None:
    """Family, sizes and operations of one operator; None where they are not known."""
    op = node.op_type
    inputs, outputs = graph.inputs(node), graph.outputs(node)
    if not outputs or not inputs:
        return None
    rule = _RULES.get(op)
    if rule is not None:
        return rule(graph, node)
    size, most = outputs[0].size, max(v.size for v in (*inputs[:1], *outputs))
    if op in ELEMENTWISE:
        return f"elementwise.{op.lower()}", {"count": size}, float(ELEMENTWISE[op] * size)
    if op in COPIES:
        return f"copy.{op.lower()}", {"count": sum(v.size for v in outputs)}, 0.0
    if op in NORMS or op in SOFTMAX:
        width = inputs[0].dims[-1] if inputs[0].dims else 1
        family = "norm" if op in NORMS else "softmax"
        return family, {"rows": most // max(1, width), "width": width}, 10.0 * most
    if op in REDUCE:
        sizes = {"rows": size, "width": inputs[0].size // max(1, size)}
        return f"reduce.{op.lower()}", sizes, float(inputs[0].size)
    if op in RESIZE:
        return "resize", {"count": size}, 8.0 * size
    return None


def _conv(graph: Graph, node: NodeProto) -> Work | None:
    place = CONVS[node.op_type]
    weight = graph.values.get(node.input[place])
    out, data = graph.outputs(node)[0], graph.values.get(node.input[0])
    if weight is None or data is None or len(weight.dims) < 3:
        return None
    told = attributes(node)
    groups, kernel = int(told.get("group", 1)), weight.dims[2:]
    spatial = math.prod(out.dims[1:-1] if _channels_last(node) else out.dims[2:])
    sizes = {
        "b": groups,
        "m": out.dims[0] * spatial,
        "n": weight.dims[0] // groups,
        "k": math.prod(weight.dims[1:]),
        "side": round(math.sqrt(spatial)),
    }
    strides = tuple(told.get("strides", [1] * len(kernel)))
    plain = all(d == 1 for d in told.get("dilations", [1]))
    family = conv_family(groups, weight.dims[1], sizes["n"], kernel, strides, plain)
    if family.startswith("depthwise"):
        sizes.pop("n")
    elif family.startswith(("conv", "pointwise")):
        sizes.pop("b")
    return family, sizes, 2.0 * out.size * math.prod(weight.dims[1:])


def _channels_last(node: NodeProto) -> bool:
    """Whether a node's images are (batch, height, width, channels): int8 kernels want them so."""
    return node.op_type.startswith("Nhwc") or bool(attributes(node).get("channels_last"))


def conv_family(
    groups: int, inputs: int, outputs: int, kernel: Sequence[int], strides: Sequence[int],
    plain: bool = True,
) -> str:  # fmt: skip
    """The class of a convolution; `inputs` and `outputs` are of one group, `plain` is undilated.

    >>> conv_family(64, 1, 1, (31, 31), (1, 1)), conv_family(1, 64, 64, (3, 3), (1, 1))
    ('depthwise.large', 'conv.3x3')
    """
    largest = max(kernel)
    if groups > 1 and inputs == 1 and outputs == 1:
        if not plain:
            return "depthwise.dilated"
        if min(kernel) != largest:
            return "depthwise.stripe"
        return "depthwise." + ("small" if largest <= 5 else "medium" if largest <= 13 else "large")
    if groups > 1:
        return "grouped"
    if largest == 1:
        return "pointwise"
    winograd = tuple(kernel) == (3, 3) and set(strides) == {1} and plain
    return "conv.3x3" if winograd else "conv.other"


def _transposed(graph: Graph, node: NodeProto) -> Work | None:
    data, weight = graph.inputs(node)[:2]
    sizes = {"m": graph.outputs(node)[0].size, "k": math.prod(weight.dims[1:])}
    return "transposed", sizes, 2.0 * data.size * math.prod(weight.dims[1:])


def _gemm(graph: Graph, node: NodeProto) -> Work | None:
    left, right = (graph.values.get(node.input[i]) for i in (0, GEMMS[node.op_type]))
    if left is None or right is None or not left.dims or not right.dims:
        return None
    out, told = graph.outputs(node)[0], attributes(node)
    contracted = left.dims[0] if told.get("transA") and len(left.dims) == 2 else left.dims[-1]
    if told.get("transA") and len(left.dims) > 2:
        contracted = left.dims[-2]
    columns = max(1, out.size // max(1, math.prod(out.dims[:-1])))
    flops = 2.0 * out.size * contracted
    if len(right.dims) <= 2:  # one matrix for every row, however many axes the rows have
        return "gemm", {"m": out.size // columns, "n": columns, "k": contracted}, flops
    batch = math.prod(out.dims[:-2])
    sizes = {"b": batch, "m": out.dims[-2], "n": columns, "k": contracted}
    return "bmm", sizes, flops


def _pool(graph: Graph, node: NodeProto) -> Work | None:
    out, window = graph.outputs(node)[0], math.prod(attributes(node).get("kernel_shape", [1]))
    return "pool", {"count": out.size, "window": window}, float(out.size * window)


def _fft(graph: Graph, node: NodeProto) -> Work | None:
    length = graph.inputs(node)[0].dims[int(attributes(node).get("axis", -2))]
    size = max(graph.inputs(node)[0].size, graph.outputs(node)[0].size)
    return "fft", {"count": size, "width": length}, 5.0 * size * math.log2(max(2, length))


_RULES: dict[str, Callable[[Graph, NodeProto], Work | None]] = {
    **dict.fromkeys(CONVS, _conv),
    **dict.fromkeys(GEMMS, _gemm),
    **dict.fromkeys(POOLS, _pool),
    "ConvTranspose": _transposed,
    "DFT": _fft,
}


def _dtype(graph: Graph, node: NodeProto) -> str:
    if node.op_type.startswith("QLinear"):
        return "int8"
    found = graph.inputs(node)[0].dtype
    return "int8" if found == "uint8" else found


def _described(graph: Graph, node: NodeProto) -> list[Any]:
    """What a node's duration can depend on: operator, attributes, shapes, small constants."""
    told = {k: _plain(v) for k, v in sorted(attributes(node).items())}
    shapes: list[Any] = []
    for name in node.input:
        value = graph.values.get(name)
        if value is None:
            shapes.append(None)
            continue
        integers = value.constant and "int" in value.type and value.size <= 16
        content = numpy_helper.to_array(graph.constants[name]).tolist() if integers else None
        shapes.append([value.type, list(value.dims), value.constant, content])
    return [node.domain, node.op_type, told, shapes]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, int | float | str) else [str(v) for v in _each(value)]


def _each(value: Any) -> Sequence[Any]:
    return list(value) if hasattr(value, "__iter__") else [value]


# --- torch's kernels ---------------------------------------------------------------------------


def _torch_groups(graph: Graph, compiled: bool) -> tuple[list[tuple[NodeProto, ...]], int]:
    """Operators by the kernel that runs them under torch, and how many are only views."""
    readers = Counter(name for node in graph.nodes for name in node.input)
    groups: list[list[NodeProto]] = []
    home: dict[str, int] = {}  # value -> the group that writes it
    views = 0
    for node in graph.nodes:
        if node.op_type in TORCH_VIEWS:
            views += 1
            continue
        at = _joins(node, groups, home, readers, compiled)
        if at is None:
            groups.append([node])
            at = len(groups) - 1
        else:
            groups[at].append(node)
        home.update(dict.fromkeys(node.output, at))
    return [tuple(group) for group in groups], views


def _joins(
    node: NodeProto,
    groups: list[list[NodeProto]],
    home: Mapping[str, int],
    readers: Mapping[str, int],
    compiled: bool,
) -> int | None:
    """The group whose last value this node alone reads, where torch runs both as one kernel."""
    if node.op_type not in ELEMENTWISE:
        return None
    for name in node.input:
        if name not in home or readers[name] != 1:
            continue
        group = groups[home[name]]
        last = group[-1]
        if name not in last.output:
            continue
        # x * sigmoid(x) is one operator of torch's, written as two in ONNX.
        gate = last.op_type in ("Sigmoid", "HardSigmoid") and node.op_type == "Mul"
        if gate and set(last.input[:1]) <= set(node.input):
            return home[name]
        if compiled and all(g.op_type in ELEMENTWISE or g.op_type in NORMS for g in group):
            return home[name]
    return None


def totals(kernels: Sequence[Kernel]) -> Iterator[tuple[str, int, float, int]]:
    """Kind, number of kernels, operations and bytes of each class, the largest share first."""
    kinds: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        kinds.setdefault(kernel.kind, []).append(kernel)
    for kind, found in sorted(kinds.items(), key=lambda k: -sum(x.flops for x in k[1])):
        yield kind, len(found), sum(k.flops for k in found), sum(k.bytes for k in found)
