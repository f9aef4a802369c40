"""Before and after a training the quantizer writes one graph: values decide nothing but values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_networks import Chain

from nas.deploy.graph import build_digest, note
from nas.transforms.quantize.file import quantize
from nas.transforms.quantize.plan import Plan
from nas.transforms.quantize.static import prepared

EXAMPLES = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
FORMATS = ["int8", "int8-dynamic", "int8-weights", "int4", "int4-weights"]


def network(path: Path, trained: bool) -> Path:
    """Eight channels, as pruning leaves them, with a gain: weights alike until they are trained."""
    rng = np.random.default_rng(1)

    def weight(value: float, count: int) -> np.ndarray:
        moved = rng.uniform(-0.1, 0.1, count) if trained else np.zeros(count)
        return (value + moved).astype(np.float32)

    net = Chain(3, 8).conv(8, 3)
    for _ in range(2):
        norm = [net.constant(weight(value, 8)) for value in (1, 0, 0, 1)]
        net.op("BatchNormalization", *norm).op("Relu").conv(8, 3)
    net.op("Mul", net.constant(weight(1, 1))).op("Add", net.constant(weight(0, 1)))
    net.op("GlobalAveragePool").op("Flatten").linear(10).save(path)
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:  # biases move too
        if not numpy_helper.to_array(tensor).any() and tensor.dims[0] > 1:
            tensor.CopyFrom(numpy_helper.from_array(weight(0, tensor.dims[0]), tensor.name))
    note(proto, {t.name for t in proto.graph.initializer}, set())
    onnx.save(proto, path)
    return path


def test_nothing_is_shared_or_left_out_for_the_values_it_has_by_chance(tmp_path: Path) -> None:
    graphs = [
        prepared(network(tmp_path / "n.onnx", trained), tmp_path / "p.onnx").graph
        for trained in (False, True)
    ]
    before, after = ([(n.op_type, *n.input) for n in graph.node] for graph in graphs)
    assert before == after
    assert {"Mul", "Add"} <= {kind for kind, *_ in before}
    assert "BatchNormalization" not in {kind for kind, *_ in before}
    assert graphs[0].value_info  # shapes, which the quantizer needs


@pytest.mark.parametrize("wanted", FORMATS)
def test_a_training_leaves_the_build_as_it_was(wanted: str, tmp_path: Path) -> None:
    builds = []
    for trained in (False, True):
        source = network(tmp_path / "n.onnx", trained)
        quantize(source, tmp_path / "q.onnx", Plan((wanted,) * 4), EXAMPLES)
        proto = onnx.load(tmp_path / "q.onnx")
        note(proto, {t.name for t in proto.graph.initializer}, set())
        builds.append(build_digest(proto))
    assert builds[0] == builds[1]


def test_a_training_whose_codes_became_small_has_the_bits_that_were_asked_for(
    tmp_path: Path,
) -> None:
    builds = []
    for most in (7, 3):  # codes of 4 bits, and of 3
        source = network(tmp_path / "n.onnx", False)
        proto, rng = onnx.load(source), np.random.default_rng(most)
        for tensor in proto.graph.initializer:
            shape = tuple(tensor.dims)
            if len(shape) > 1:
                codes = rng.integers(-most, most + 1, shape).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(codes / 8, tensor.name))
        onnx.save(proto, source)
        quantize(source, tmp_path / "q.onnx", Plan(("int4",) * 4, method="qat"), EXAMPLES)
        proto = onnx.load(tmp_path / "q.onnx")
        note(proto, {t.name for t in proto.graph.initializer}, set())
        builds.append(build_digest(proto))
    assert builds[0] == builds[1]
