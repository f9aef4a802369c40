"""Small ONNX files: one that works, and one for each way of not working."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas.hardware.device import parse
from nas.hardware.lease import Lease


def save(path, nodes, weights, shape, output=None, kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        weights,
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(network, path)
    return path


def dense(path, width=64, depth=2, batch="batch"):
    """A chain of square linear layers: `depth` products of (N, width) by (width, width)."""
    rng = np.random.default_rng(depth)
    weights, nodes, at = [], [], "x"
    for i in range(depth):
        values = rng.standard_normal((width, width)).astype(np.float32) / width**0.5
        weights.append(numpy_helper.from_array(values, f"w{i}"))
        out = "y" if i == depth - 1 else f"h{i}"
        nodes.append(helper.make_node("MatMul", [at, f"w{i}"], [out]))
        at = out
    return save(path, nodes, weights, [batch, width])


def hanging(path):
    """A loop of 2^60 additions."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["keep"], ["keep_out"]),
            helper.make_node("Add", ["state", "state"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None),
        ],
    )
    trips = [
        numpy_helper.from_array(np.array(2**60), "trips"),
        numpy_helper.from_array(np.array(True), "go"),
    ]
    return save(
        path, [helper.make_node("Loop", ["trips", "go", "x"], ["y"], body=body)], trips, ["n", 4]
    )


def greedy(path):
    """Asks for 2^42 numbers at once."""
    size = [numpy_helper.from_array(np.array([2**21, 2**21]), "size")]
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("Mul", ["big", "x"], ["y"]),
    ]
    return save(path, nodes, size, ["n", 1])


@pytest.fixture
def cpu():
    return parse('title = "this host"\nkind = "cpu"', "cpu")


@pytest.fixture
def lease(tmp_path):
    return Lease(tmp_path / "locks", "cpu")


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Files by what is the matter with them."""
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    return {
        "small": dense(tmp_path / "small.onnx"),
        "large": dense(tmp_path / "large.onnx", width=256, depth=8),
        # Half a megabyte of weights, so it stays in the core's own cache: how long "large" takes
        # depends on the process even where nothing else runs.
        "cached": dense(tmp_path / "cached.onnx", width=64, depth=32),
        "fixed": dense(tmp_path / "fixed.onnx", batch=4),
        "broken": tmp_path / "broken.onnx",
        "hanging": hanging(tmp_path / "hanging.onnx"),
        "greedy": greedy(tmp_path / "greedy.onnx"),
        "missing": tmp_path / "missing.onnx",
    }
