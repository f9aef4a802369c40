"""The graph that a runtime really runs, with the shape of every value.

Nothing of a runtime's optimiser is imitated here: onnxruntime is asked to optimise the file and to
write down what is left (operators fused, layouts chosen, constants folded), and then for the shapes
it infers, those of its own operators included. No inference runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.hardware.agent.workplace import workplace

Level = Literal["folded", "fused", "native"]
_WIDTHS = {
    "double": 8, "int64": 8, "uint64": 8, "float": 4, "int32": 4, "uint32": 4, "float16": 2,
    "bfloat16": 2, "int16": 2, "uint16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
_NAMES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its ONNX type, its sizes, whether it is a constant of the file."""

    type: str
    dims: tuple[int, ...]
    constant: bool = False

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return self.size * _WIDTHS.get(self.type, 4)

    @property
    def dtype(self) -> str:
        """`fp32`, `fp16`, `int8`, ...: how kernels call it."""
        return _NAMES.get(self.type, self.type)


@dataclass(frozen=True)
class Graph:
    """Operators in the order they run, every value by name, and the constants' contents."""

    nodes: tuple[NodeProto, ...]
    values: Mapping[str, Value]
    constants: Mapping[str, TensorProto]
    opsets: tuple[tuple[str, int], ...]
    ir_version: int

    def inputs(self, node: NodeProto) -> list[Value]:
        """The values a node reads, optional ones that are left out skipped."""
        return [self.values[name] for name in node.input if name in self.values]

    def outputs(self, node: NodeProto) -> list[Value]:
        """The values a node writes."""
        return [self.values[name] for name in node.output if name in self.values]


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes as plain values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def lowered(path: Path, workload: Workload | None = None, level: Level = "native") -> Graph:
    """The graph of a file for a workload as onnxruntime leaves it.

    `folded` has constants folded and nothing else that a processor would choose; `fused` has
    operators fused as on any processor; `native` has the layouts of this processor too, and is what
    runs here. Raises: NasError where the file cannot be read or loaded.
    """
    proto = _fixed(path, workload or Workload())
    with workplace("lowering") as folder:
        target = folder / "optimised.onnx"
        _session(proto, path, level, target)
        found = onnx.load(target)
    return _shaped(found, path)


def _fixed(path: Path, workload: Workload) -> ModelProto:
    """The file with its free dimensions fixed: the first is the batch, later ones the side."""
    try:
        proto = onnx.load(path)
    except Exception as error:  # onnx passes on whatever protobuf raises
        raise NasError(
            f"not an ONNX file that can be read: {path} ({error})", "export the network again"
        ) from error
    constants = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in constants:
            continue
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value:
                continue
            asked = workload.batch if place == 0 else workload.resolution
            if asked is None:
                raise NasError(
                    f"{path}: input {value.name!r} leaves dimension {place} free",
                    "say the resolution, or export it with a fixed one",
                )
            dim.dim_value = asked
    return proto


def _session(proto: ModelProto, path: Path, level: Level | None, target: Path | None) -> Any:
    """Loads a graph without preparing it to run; writes what the optimiser left to `target`."""
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    options = ort.SessionOptions()
    options.graph_optimization_level = {
        None: levels.ORT_DISABLE_ALL,
        "folded": levels.ORT_ENABLE_BASIC,
        "fused": levels.ORT_ENABLE_EXTENDED,
        "native": levels.ORT_ENABLE_ALL,
    }[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    if target is not None:
        options.optimized_model_filepath = str(target)
    try:
        return ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise NasError(
            f"onnxruntime cannot load {path}: {str(error).strip()[:300]}",
            "is every operator of the file one that onnxruntime knows?",
        ) from error


def _shaped(proto: ModelProto, path: Path) -> Graph:
    """The graph with the runtime's own shapes: every value made an output, and asked for."""
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    probe = ModelProto()
    probe.CopyFrom(proto)
    outputs = {value.name for value in graph.output}
    for name in _written(graph.node):
        if name not in outputs:
            probe.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = _session(probe, path, None, None)
    values = {
        name: Value(_type(tensor), tuple(tensor.dims), True) for name, tensor in constants.items()
    }
    for found in (*session.get_inputs(), *session.get_outputs()):
        if all(isinstance(size, int) for size in found.shape):
            kind = found.type.removeprefix("tensor(").removesuffix(")")
            values.setdefault(found.name, Value(kind, tuple(found.shape)))
    return Graph(
        tuple(graph.node),
        values,
        constants,
        tuple((o.domain, o.version) for o in proto.opset_import),
        proto.ir_version,
    )


def _written(nodes: Any) -> Iterator[str]:
    for node in nodes:
        yield from (name for name in node.output if name)


def _type(tensor: TensorProto) -> str:
    return str(TensorProto.DataType.Name(tensor.data_type)).lower()
