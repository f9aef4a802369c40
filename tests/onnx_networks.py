"""Small convolutional networks as ONNX files, written without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Chain:
    """A chain of operators on (batch, channels, side, side) with random weights."""

    def __init__(self, channels: int = 16, side: int = 16, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.shape = ["batch", channels, side, side]
        self.channels = channels
        self.at = "input"

    def op(self, kind: str, *extra: str, **attributes: Any) -> Chain:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.at, *extra], [out], **attributes))
        self.at = out
        return self

    def constant(self, values: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(self, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Chain:
        shape = (outputs, self.channels // groups, kernel, kernel)
        weight = self.constant(self.rng.standard_normal(shape).astype(np.float32) / kernel)
        bias = self.constant(np.zeros(outputs, np.float32))
        self.channels = outputs
        return self.op(
            "Conv", weight, bias, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4,
            strides=[stride, stride], group=groups,
        )  # fmt: skip

    def linear(self, outputs: int) -> Chain:
        weight = self.rng.standard_normal((self.channels, outputs)).astype(np.float32)
        self.channels = outputs
        return self.op("Gemm", self.constant(weight), self.constant(np.zeros(outputs, np.float32)))

    def save(self, path: Path, opset: int = 20) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.at, TensorProto.FLOAT, None)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        return path


def mixed(path: Path, width: int = 16, kernel: int = 15, side: int = 16, seed: int = 0) -> Path:
    """Dense, depthwise and pointwise convolutions with ReLU and GELU, pooled into ten outputs."""
    net = Chain(3, side, seed).conv(width, 3).op("Relu")
    net.conv(width, kernel, groups=width).conv(4 * width, 1).op("Gelu").conv(width, 1)
    net.op("GlobalAveragePool").op("Flatten")
    return net.linear(10).save(path)


def quantized(plain: Path, path: Path) -> Path:
    """The file in 8 bits, as conversions around its operators (QDQ), with made-up ranges."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    [told] = onnx.load(plain).graph.input
    shape = [d.dim_value or 1 for d in told.type.tensor_type.shape.dim]

    class One(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{told.name: np.ones(shape, np.float32)}])

        def get_next(self) -> Any:
            return next(self.left, None)

    quantize_static(
        str(plain), str(path), One(), per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return path
