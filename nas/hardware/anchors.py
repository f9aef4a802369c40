"""Two small fixed networks, timed in every session, so that sessions can be compared.

One is dense 3x3 convolutions, one is depthwise 7x7 and pointwise convolutions: what moves one kind
of kernel (clock, caches, a new runtime) shows in the other by another factor. Their weights are
made from a fixed seed, so they are the same on every host.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32


@functools.cache
def _bytes(name: str) -> bytes:
    dense = name == "dense"
    width, blocks = (24, 3) if dense else (32, 3)
    rng = np.random.RandomState(20261121)
    nodes: list[Any] = []
    weights: list[Any] = []
    at = "input"

    def conv(inputs: int, outputs: int, kernel: int, groups: int = 1, stride: int = 1) -> None:
        nonlocal at
        place = len(weights)
        fan = inputs // groups * kernel * kernel
        values = rng.standard_normal((outputs, inputs // groups, kernel, kernel)) / fan**0.5
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"weight{place}"))
        look = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2}
        names = [at, f"weight{place}"]
        nodes.append(helper.make_node("Conv", names, [f"conv{place}"], group=groups, **look))
        nodes.append(helper.make_node("Relu", [f"conv{place}"], [f"relu{place}"]))
        at = f"relu{place}"

    conv(3, width, 3, stride=2)
    for _ in range(blocks):
        conv(width, width, 3 if dense else 7, groups=1 if dense else width)
        if not dense:
            conv(width, 2 * width, 1)
            conv(2 * width, width, 1)
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["output"]))
    shape = ["batch", 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        f"anchor_{name}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", width, 1, 1])],
        weights,
    )
    # Versions are fixed so that a newer onnx writes the same network.
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(network)
    return bytes(network.SerializeToString())


def write_anchors(folder: Path) -> tuple[Path, ...]:
    """Writes the anchors into a folder and returns their paths; their stems are their names."""
    paths = []
    for name in ("dense", "depthwise"):
        path = folder / f"{name}.onnx"
        path.write_bytes(_bytes(name))
        paths.append(path)
    return tuple(paths)
