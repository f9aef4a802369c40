"""Formats that are not int8 with fixed ranges, written into an exported file node by node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas.transforms.quantize.codes import codes, widest_steps
from nas.transforms.quantize.packing import Packed
from nas.transforms.quantize.plan import FORMATS

BLOCK = 32  # weights along the inputs that share a step in `MatMulNBits`
DOMAIN = "com.microsoft"
COMPUTE = 4  # `accuracy_level`: activations in int8 too, from ranges of their own blocks
MOST = 448.0  # the largest number of fp8, E4M3
HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@dataclass
class _Rewriting:
    """A graph being rewritten: nodes that go, what comes instead, and new constants."""

    proto: ModelProto
    weights: Mapping[str, npt.NDArray[Any]]
    instead: dict[str, list[NodeProto]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    packed: dict[str, Packed] = field(default_factory=dict)

    def put(self, name: str, value: Any) -> str:
        """A constant's name."""
        self.constants[name] = value
        return name


def rewrite(
    proto: ModelProto,
    formats: Mapping[str, str],
    kernels: Collection[str] = (),
    ranges: Mapping[str, float] | None = None,
) -> dict[str, Packed]:
    """Gives nodes, by their names, the formats `int8-dynamic`, `*-weights`, `fp16`, `bf16`, `fp8`.

    Where the runtime has a kernel (`kernels`) the node computes in that format. Where it has none
    only the bytes are saved: the file makes fp32 of them when it is loaded. `ranges` has the
    largest absolute value of each tensor that a node in fp8 reads.

    Returns: initializers of codes that are still to be packed.
    """
    ranges = ranges or {}
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    work = _Rewriting(proto, weights)
    for node in proto.graph.node:
        wanted = formats.get(node.name)
        if wanted is None:
            continue
        linear = node.op_type != "Conv"
        if wanted == "fp8" and wanted in kernels:
            work.instead[node.name] = _eighth(work, node, ranges[node.input[0]])
        elif wanted == "fp8":
            work.instead[node.name] = _stored_eighth(work, node)
        elif wanted in HALVES:
            work.instead[node.name] = _half(work, node, HALVES[wanted], wanted in kernels)
        elif wanted == "int8-dynamic":
            work.instead[node.name] = _dynamic(work, node)
        elif linear and wanted in kernels:
            work.instead[node.name] = _blocks(work, node, FORMATS[wanted].bits)
        else:
            work.instead[node.name] = _stored(work, node, FORMATS[wanted].bits)
    _finished(work)
    return work.packed


def _finished(work: _Rewriting) -> None:
    graph = work.proto.graph
    nodes = [new for node in graph.node for new in work.instead.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for name, value in work.constants.items():
        made = value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
        graph.initializer.append(made)
    if all(o.domain != DOMAIN for o in work.proto.opset_import):
        work.proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def rows_of(node: NodeProto, weight: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """A node's weight with its outputs first: `(outputs, inputs, ...)`."""
    return weight.T if turned(node) else weight


def turned(node: NodeProto) -> bool:
    """Whether a node's weight is `(inputs, outputs)`."""
    if node.op_type != "Gemm":
        return bool(node.op_type == "MatMul")
    return all(not a.i for a in node.attribute if a.name == "transB")


def _biased(node: NodeProto, made: str, nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes, the last of which makes `made`, with the bias where the node has one."""
    if len(node.input) > 2 and node.input[2]:
        nodes.append(helper.make_node("Add", [made, node.input[2]], [node.output[0]]))
    else:
        nodes[-1].output[0] = node.output[0]
    return nodes


def _dynamic(work: _Rewriting, node: NodeProto) -> list[NodeProto]:
    """A product of 8-bit codes whose activations' range is found in each call."""
    at, rows = node.name, rows_of(node, work.weights[node.input[1]])
    steps = widest_steps(rows)
    weight = work.put(f"{at}.codes", np.ascontiguousarray(codes(rows, steps).T))
    zero = work.put(f"{at}.zero", np.zeros(len(rows), np.int8))
    scale = work.put(f"{at}.steps", steps.astype(np.float32))
    found = [f"{at}.input", f"{at}.input.step", f"{at}.input.zero"]
    made = [
        helper.make_node("DynamicQuantizeLinear", [node.input[0]], found),
        helper.make_node("MatMulInteger", [found[0], weight, found[2], zero], [f"{at}.sums"]),
        helper.make_node("Cast", [f"{at}.sums"], [f"{at}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [found[1], scale], [f"{at}.scale"]),
        helper.make_node("Mul", [f"{at}.float", f"{at}.scale"], [f"{at}.product"]),
    ]
    return _biased(node, f"{at}.product", made)


def _blocks(work: _Rewriting, node: NodeProto, bits: int) -> list[NodeProto]:
    """onnxruntime's product with weights in blocks, each with a step of its own."""
    at, rows = node.name, rows_of(node, work.weights[node.input[1]])
    outputs, inputs = rows.shape
    padded = np.pad(rows, ((0, 0), (0, -inputs % BLOCK))).reshape(-1, BLOCK)
    steps = widest_steps(padded, bits)
    above = (codes(padded, steps, bits).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        above = above[:, 0::2] | (above[:, 1::2] << 4)
    weight = work.put(f"{at}.codes", above.reshape(outputs, -1, BLOCK * bits // 8))
    scale = work.put(f"{at}.steps", steps.astype(np.float32))
    made = helper.make_node(
        "MatMulNBits", [node.input[0], weight, scale], [f"{at}.product"], domain=DOMAIN,
        K=inputs, N=outputs, bits=bits, block_size=BLOCK, accuracy_level=COMPUTE,
    )  # fmt: skip
    return _biased(node, f"{at}.product", [made])


def _stored(work: _Rewriting, node: NodeProto, bits: int) -> list[NodeProto]:
    """The node with weights in few bits, which are made fp32 when the file is loaded."""
    at, weight = node.name, work.weights[node.input[1]]
    rows = rows_of(node, weight)
    steps = widest_steps(rows.reshape(len(rows), -1), bits)
    kept = codes(rows.reshape(len(rows), -1), steps, bits).reshape(rows.shape)
    across = [-1] + [1] * (rows.ndim - 1)
    scale = steps.reshape(across)
    if turned(node):
        kept, scale = kept.T, scale.T
    name = work.put(f"{at}.codes", np.ascontiguousarray(kept))
    if bits < 8:
        work.packed[name] = Packed(kept, bits)
    return _made_float(work, node, name, scale)


def _half(work: _Rewriting, node: NodeProto, kind: int, real: bool) -> list[NodeProto]:
    """The node with weights of 16 bits, which computes in them where that is real."""
    at, changed = node.name, NodeProto()
    changed.CopyFrom(node)
    made = []
    for place, name in enumerate(node.input):
        if place and name in work.weights:
            values = work.weights[name]
            short = helper.make_tensor(f"{at}.{place}", kind, values.shape, values.ravel())
            work.put(short.name, short)
            changed.input[place] = short.name
            if not real:
                changed.input[place] = f"{at}.{place}.float"
                cast = helper.make_node(
                    "Cast", [short.name], [changed.input[place]], to=TensorProto.FLOAT
                )
                made.append(cast)
        elif real:
            changed.input[place] = f"{at}.{place}.short"
            made.append(helper.make_node("Cast", [name], [changed.input[place]], to=kind))
    if not real:
        return [*made, changed]
    changed.output[0] = f"{at}.short"
    back = helper.make_node("Cast", [f"{at}.short"], [node.output[0]], to=TensorProto.FLOAT)
    return [*made, changed, back]


def _short(work: _Rewriting, node: NodeProto) -> tuple[TensorProto, npt.NDArray[Any]]:
    """A weight as numbers of fp8, and steps, by row, broadcast against it."""
    weight = work.weights[node.input[1]]
    rows = rows_of(node, weight)
    most = np.abs(rows.reshape(len(rows), -1)).max(axis=1)
    across = [1, -1] if turned(node) else [-1] + [1] * (weight.ndim - 1)
    steps = (np.where(most > 0, most, MOST) / MOST).astype(np.float32).reshape(across)
    kept = _floats(f"{node.name}.codes", weight.shape, (weight / steps).ravel())
    work.put(kept.name, kept)
    return kept, steps


def _floats(name: str, shape: Sequence[int], values: Any) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, shape, values)


def _eighth(work: _Rewriting, node: NodeProto, most: float) -> list[NodeProto]:
    """The node between pairs of quantizing operators of fp8, as TensorRT reads them."""
    at = node.name
    kept, steps = _short(work, node)
    scale = work.put(f"{at}.steps", steps.ravel())
    step = work.put(f"{at}.step", np.array(most / MOST or 1.0, np.float32))
    zero = work.put(f"{at}.zero", _floats(f"{at}.zero", [], [0.0]))
    zeros = work.put(f"{at}.zeros", _floats(f"{at}.zeros", [steps.size], [0.0] * steps.size))
    axis, changed = int(turned(node)), NodeProto()
    changed.CopyFrom(node)
    changed.input[0], changed.input[1] = f"{at}.input", f"{at}.weight"
    return [
        helper.make_node("QuantizeLinear", [node.input[0], step, zero], [f"{at}.short"]),
        helper.make_node("DequantizeLinear", [f"{at}.short", step, zero], [f"{at}.input"]),
        helper.make_node(
            "DequantizeLinear", [kept.name, scale, zeros], [f"{at}.weight"], axis=axis
        ),
        changed,
    ]


def _stored_eighth(work: _Rewriting, node: NodeProto) -> list[NodeProto]:
    """The node with weights of fp8, which are made fp32 when the file is loaded."""
    kept, steps = _short(work, node)
    return _made_float(work, node, kept.name, steps)


def _made_float(work: _Rewriting, node: NodeProto, kept: str, steps: Any) -> list[NodeProto]:
    """The node, whose weight is the product of short numbers and steps."""
    at, changed = node.name, NodeProto()
    scale = work.put(f"{at}.steps", np.ascontiguousarray(steps, dtype=np.float32))
    changed.CopyFrom(node)
    changed.input[1] = f"{at}.weight"
    return [
        helper.make_node("Cast", [kept], [f"{at}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{at}.float", scale], [f"{at}.weight"]),
        changed,
    ]
