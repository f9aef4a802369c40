"""An ONNX graph as data: which of its tensors are weights, and the digest that names its build."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from nas.core.architecture import digest

# Notes in a file's metadata, one name a line: which initializers are parameters or buffers of the
# module, and which parameters and buffers of the module the graph does not read.
WEIGHTS, UNUSED = "nas.weights", "nas.unused"


def noted(proto: ModelProto, key: str) -> Set[str]:
    """The names under `WEIGHTS` or `UNUSED` in a file that this project exported."""
    names = {p.key: p.value for p in proto.metadata_props}.get(key, "")
    return frozenset(names.split("\n")) - {""}


def note(proto: ModelProto, weights: Set[str], unused: Set[str]) -> None:
    """Writes into a file what `noted` reads."""
    notes = {WEIGHTS: weights, UNUSED: unused}
    onnx.helper.set_model_props(proto, {k: "\n".join(sorted(v)) for k, v in notes.items()})


def precision(proto: ModelProto) -> str:
    """`int8` where a file works with integers, else `float32`."""
    quantized = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    return "int8" if quantized else "float32"


def build_digest(proto: ModelProto) -> str:
    """Names what was built: operators, attributes, topology, shapes of inputs and weights.

    Two files have one digest where they differ only in the weights' values, in names, or in who
    wrote them. Constants that are not weights (the axes of a reduction, the shape of a reshape)
    count with their values. Values are numbered in the order in which they come about.
    """
    graph, weights = proto.graph, noted(proto, WEIGHTS)
    numbers: dict[str, int] = {"": -1}
    described: list[Any] = [[f"{o.domain}:{o.version}" for o in proto.opset_import]]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in constants:
            numbers[value.name] = len(numbers)
            described.append(["input", _shape(value)])
    for node in graph.node:
        for name in node.input:
            if name not in numbers and name in constants:
                numbers[name] = len(numbers)
                described.append(_tensor(constants[name], valued=name not in weights))
        described.append([
            node.domain, node.op_type,
            sorted(_attribute(a, weights) for a in node.attribute),
            [numbers[name] for name in node.input],
        ])  # fmt: skip
        for name in node.output:
            numbers[name] = len(numbers)
    described.append(["output", [numbers[value.name] for value in graph.output]])
    return digest(described)


def _shape(value: onnx.ValueInfoProto) -> list[Any]:
    kind = value.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else "any" for d in kind.shape.dim]
    return [kind.elem_type, *sizes]


def _tensor(tensor: TensorProto, valued: bool) -> list[Any]:
    described: list[Any] = [tensor.data_type, list(tensor.dims)]
    if valued:
        values = onnx.numpy_helper.to_array(tensor).tobytes()
        described.append(hashlib.blake2b(values, digest_size=16).hexdigest())
    return described


def _attribute(attribute: AttributeProto, weights: Set[str]) -> list[Any]:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        plain: Any = _tensor(value, valued=True)
    elif isinstance(value, GraphProto):
        plain = [_node(node, weights) for node in value.node]
    elif isinstance(value, bytes):
        plain = value.decode("latin-1")
    else:
        plain = [v.decode("latin-1") if isinstance(v, bytes) else v for v in _listed(value)]
    return [attribute.name, attribute.type, plain]


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, int | float) else list(value)


def _node(node: NodeProto, weights: Set[str]) -> list[Any]:
    described = [_attribute(a, weights) for a in node.attribute]
    return [node.domain, node.op_type, sorted(described), list(node.input), list(node.output)]
