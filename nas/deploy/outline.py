"""What a file computes, as a picture of it needs to know: the operators that multiply by weights.

Read from the ONNX file that ships, so it is true of any network, whatever made it: kernels, strides
and channels as they are after folding, bits and zeros as the quantizer and the pruner left them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from nas.core.errors import NasError

Pair = tuple[int, int]
_MULTIPLY = ("Conv", "Gemm", "MatMul")
_BITS = {onnx.TensorProto.INT8: 8, onnx.TensorProto.UINT8: 8, onnx.TensorProto.FLOAT16: 16,
         onnx.TensorProto.BFLOAT16: 16, onnx.TensorProto.INT4: 4,
         onnx.TensorProto.UINT4: 4}  # fmt: skip
# A stage is what the name of a module says up to its first number: `stages.2`, `layer1`, `stem`.
_STAGE = re.compile(r"^(?P<stage>(?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*(?:\.\d+(?=\.))?)(?:\.|$)")


@dataclass(frozen=True)
class Layer:
    """An operator that multiplies by weights.

    Args:
        node: its name in the file. path: of the module whose weights it has, `stages.0.expand`.
        kind: `convolution`, `depthwise` (as many groups as channels), `grouped`, or `linear`.
        kernel, dilation, stride: (height, width); 1 of a linear layer.
        channels: (in, out). map: height and width of what it writes; (1, 1) of a linear layer.
        bits: of its weights. zeros: share of its weights that are 0.
        params: how many weights it has. macs: multiply-accumulates for one example.
    """

    node: str
    path: str
    kind: str
    kernel: Pair
    dilation: Pair
    stride: Pair
    channels: Pair
    map: Pair
    bits: int
    zeros: float
    params: int
    macs: int

    @property
    def reach(self) -> Pair:
        """Height and width of the window of input that one output sees.

        >>> flat = {"stride": (1, 1), "channels": (8, 8), "map": (9, 9), "bits": 32}
        >>> counts = {"zeros": 0.0, "params": 72, "macs": 5832}
        >>> Layer("n", "a", "depthwise", (3, 3), (2, 2), **flat, **counts).reach
        (5, 5)
        """
        down, across = (d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return down, across


def outline(path: Path) -> list[Layer]:
    """The layers of an ONNX file, in the order in which they run.

    Raises: NasError where the file cannot be read.
    """
    try:
        proto = onnx.shape_inference.infer_shapes(onnx.load(path))
    except Exception as error:  # onnx documents no set of what it raises
        raise NasError(f"{path} cannot be read: {error}", "export the network again") from error
    shapes = _shapes(proto)
    weights = _weights(proto, shapes)
    found = []
    for node in proto.graph.node:
        held = [name for name in node.input if name in weights]
        if node.op_type in _MULTIPLY and held and len(weights[held[0]][1].shape) > 1:
            found.append(_layer(node, *weights[held[0]], shapes.get(node.output[0], [])))
    return found


def stages(layers: Sequence[Layer]) -> list[tuple[str, list[Layer]]]:
    """The layers in stages, by the names of their modules: `stem`, `stages.0`, `head`.

    A network whose modules have no such names (a plain `nn.Sequential`) is cut where the size of
    its maps changes.
    """
    names = [_stage(layer.path) for layer in layers]
    if len(set(names)) > len(layers) // 2 + 1:
        maps = groupby(layers, key=lambda layer: layer.map)
        return [(f"{size[0]} x {size[1]}", list(part)) for size, part in maps]
    parts = groupby(zip(names, layers, strict=True), key=lambda pair: pair[0])
    return [(name, [layer for _, layer in part]) for name, part in parts]


def _stage(path: str) -> str:
    found = _STAGE.match(path)
    return found["stage"] if found else path


def _weights(
    proto: ModelProto, shapes: Mapping[str, Sequence[int]]
) -> dict[str, tuple[str, Any, int]]:
    """Every tensor that may be a weight: the module it is of, its numbers, its bits.

    What a quantizer's `DequantizeLinear` makes of a stored tensor is that tensor, in fewer bits.
    Codes that the file takes out of a string of bits are not looked into: they count as the 8 bits
    that they are computed in, and none of them as zero.
    """
    found = {}
    for tensor in proto.graph.initializer:
        bits = _BITS.get(tensor.data_type, 32)
        values = numpy_helper.to_array(tensor)
        found[tensor.name] = (tensor.name.rpartition(".")[0], values, bits)
    for node in proto.graph.node:
        packed = node.op_type == "DequantizeLinear" and node.input[0] not in found
        shape = shapes.get(node.input[0], []) if packed else []
        if len(shape) > 1 and all(shape):  # of activations the batch is open
            home = node.input[0].rpartition(".")[0]
            found[node.output[0]] = (home, np.ones(shape, np.int8), 8)
        elif node.op_type == "DequantizeLinear" and node.input[0] in found:
            home, values, bits = found[node.input[0]]
            zero = found[node.input[2]][1] if len(node.input) > 2 else np.zeros(1)
            found[node.output[0]] = (home, values.astype(np.int32) - _spread(zero, values), bits)
        elif node.op_type in ("Transpose", "Reshape", "Identity") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _spread(zero: Any, values: Any) -> Any:
    """A quantizer's zero points `(C,)` or `()` against weights whose first axis is C."""
    plain = zero.astype(np.int32)
    if plain.size == 1 or plain.size != values.shape[0]:
        return plain.reshape(-1)[0]
    return plain.reshape(-1, *[1] * (values.ndim - 1))


def _shapes(proto: ModelProto) -> dict[str, list[int]]:
    """The shape of every value, 0 where it is open (the batch)."""
    graph = proto.graph
    return {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _layer(node: NodeProto, path: str, values: Any, bits: int, shape: Sequence[int]) -> Layer:
    given: Mapping[str, Any] = {
        a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
    }  # fmt: skip
    counted: Any = {"bits": bits, "zeros": float(np.mean(values == 0)), "params": int(values.size)}
    if node.op_type != "Conv":
        turned = node.op_type == "Gemm" and given.get("transB", 0)
        into, out = reversed(values.shape[-2:]) if turned else values.shape[-2:]
        places = int(np.prod([n for n in shape[1:-1] if n] or [1]))
        return Layer(node.name, path, "linear", (1, 1), (1, 1), (1, 1), (int(into), int(out)),
                     (1, 1), macs=int(values.size) * places, **counted)  # fmt: skip
    kernel, groups = _pair(values.shape[2:]), int(given.get("group", 1))
    out, into = int(values.shape[0]), int(values.shape[1]) * groups
    written = _pair(shape[2:]) if len(shape) > 2 else (0, 0)
    kind = "convolution" if groups == 1 else "depthwise" if groups == into else "grouped"
    return Layer(
        node.name, path, kind, kernel, _pair(given.get("dilations", (1, 1))),
        _pair(given.get("strides", (1, 1))), (into, out), written,
        macs=int(values.size) * written[0] * written[1], **counted,
    )  # fmt: skip


def _pair(numbers: Sequence[int]) -> Pair:
    """Height and width; of one dimension, a height of 1."""
    plain = [int(n) for n in numbers]
    return (plain[-2], plain[-1]) if len(plain) > 1 else (1, plain[0] if plain else 1)
