"""Fewer bytes, the same codes, and nothing left of it in what the runtime runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from nas.deploy.graph import build_digest, note
from nas.transforms.quantize.codes import largest
from nas.transforms.quantize.packing import Packed, bytes_of, pack

RNG = np.random.default_rng(0)


def network(tensors: dict[str, Packed]) -> ModelProto:
    """Gives the codes of each tensor back, as the initializers they are, plus the input."""
    nodes = [helper.make_node("Cast", [n], [f"{n}.f"], to=TensorProto.FLOAT) for n in tensors]
    nodes += [helper.make_node("Mul", [f"{n}.f", "x"], [f"{n}.y"]) for n in tensors]
    outputs = [helper.make_tensor_value_info(f"{n}.y", TensorProto.FLOAT, None) for n in tensors]
    graph = helper.make_graph(
        nodes, "codes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], outputs,
        [numpy_helper.from_array(p.codes, n) for n, p in tensors.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    made.ir_version = 10
    return made


def drawn(*bits: int) -> dict[str, Packed]:
    shapes = [(4, 3, 3, 3), (7, 5), (1, 1), (16, 2)]
    made = {}
    for i, (b, shape) in enumerate(zip(bits, shapes, strict=False)):
        most = largest(b)
        made[f"w{i}"] = Packed(RNG.integers(-most, most + 1, shape).astype(np.int8), b)
    return made


@pytest.mark.parametrize("bits", [(4, 4), (2, 6, 8, 3), (8,), (7, 5)])
def test_every_code_comes_back(bits: tuple[int, ...], tmp_path: Path) -> None:
    tensors = drawn(*bits)
    proto = network(tensors)
    pack(proto, tensors)
    string = next(t for t in proto.graph.initializer if t.name == "packed")
    assert len(numpy_helper.to_array(string)) == bytes_of(tensors)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"x": np.ones(1, np.float32)})
    for packed, values in zip(tensors.values(), found, strict=True):
        np.testing.assert_array_equal(values, packed.codes)
    left = Counter(n.op_type for n in onnx.load(tmp_path / "loaded.onnx").graph.node)
    assert set(left) <= {"Mul"}  # taken apart once, when the file was loaded


def test_how_a_budget_is_divided_does_not_change_the_graph() -> None:
    digests = set()
    for bits in ((8, 2, 4), (2, 8, 8)):
        tensors = drawn(*bits)
        proto = network(tensors)
        pack(proto, tensors, length=200)
        note(proto, {t.name for t in proto.graph.initializer}, set())
        digests.add(build_digest(proto))
    assert len(digests) == 1


def test_what_does_not_fit_is_refused_and_nothing_is_packed_for_nothing() -> None:
    tensors = drawn(8, 8)
    with pytest.raises(ValueError, match="in a string of 10"):
        pack(network(tensors), tensors, length=10)
    proto = network(tensors)
    before = proto.SerializeToString()
    pack(proto, {})
    assert proto.SerializeToString() == before
