from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_networks import Chain, mixed

from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.transforms.quantize.file import quantize
from nas.transforms.quantize.plan import Plan, layers
from nas.transforms.quantize.transform import quantizing
from nas.transforms.stages import Given

EXAMPLES = np.random.default_rng(0).standard_normal((32, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def network(tmp_path):
    return mixed(tmp_path / "mixed.onnx", kernel=5)


def test_layers_are_found_with_their_multiply_adds(network):
    found = layers(onnx.load(network))
    # 16 outputs of 3 x 3 x 3, depthwise 5 x 5, 16 -> 64 -> 16, on 16 x 16 places; 16 -> 10
    places = 16 * 16
    macs = [16 * 27 * places, 16 * 25 * places, 1024 * places, 1024 * places, 160]
    assert [layer.macs for layer in found] == macs
    assert [layer.depthwise for layer in found] == [False, True, False, False, False]
    assert [layer.end for layer in found] == [True, False, False, False, True]
    middles = (np.cumsum(macs) - np.array(macs) / 2) / sum(macs)
    assert [layer.section for layer in found] == [int(4 * m) for m in middles]


def outputs(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0]


def kept(path):
    """Operators by whether they multiply integers: their weight is dequantized right before."""
    graph = onnx.load(path).graph
    made = {n.output[0]: n.op_type for n in graph.node}
    return Counter(
        (n.op_type, made.get(n.input[1]) == "DequantizeLinear")
        for n in graph.node
        if n.op_type in ("Conv", "Gemm", "MatMul")
    )


@pytest.mark.parametrize(
    ("plan", "count", "reason"),
    [
        (Plan(), 4, "depthwise convolutions are fp32"),
        (Plan(depthwise=True), 5, None),
        (Plan(ends=False), 2, "the first and the last layer are fp32"),
        (Plan(("fp32",) * 4), 0, "section 0 is fp32"),
        (Plan(("int8", "fp32", "int8", "int8"), depthwise=True), None, "section 1 is fp32"),
    ],
)
def test_what_the_plan_says_is_int8_and_the_rest_is_not(network, tmp_path, plan, count, reason):
    report = quantize(network, tmp_path / "q.onnx", plan, EXAMPLES)
    seen = kept(tmp_path / "q.onnx")
    assert sum(n for (_, whole), n in seen.items() if whole) == len(report.touched)
    assert len(report.touched) + len(report.skipped) == 5
    if count is not None:
        assert len(report.touched) == count
    reasons = {why for _, why in report.skipped}
    assert reason in reasons if reason else not reasons


@pytest.mark.parametrize("calibration", ["minmax", "percentile"])
def test_the_outputs_stay_close_and_the_file_shrinks(tmp_path, calibration):
    network = mixed(tmp_path / "wide.onnx", width=64, kernel=5)
    quantize(network, tmp_path / "q.onnx", Plan(depthwise=True, calibration=calibration), EXAMPLES)
    right, close = outputs(network, EXAMPLES), outputs(tmp_path / "q.onnx", EXAMPLES)
    assert np.abs(right - close).max() < 0.1 * np.abs(right).max()
    assert not np.array_equal(right, close)
    # 32,000 weights in one byte instead of four; scales and the graph itself stay
    assert (tmp_path / "q.onnx").stat().st_size < 0.45 * network.stat().st_size


def test_a_weight_is_rounded_to_a_255th_of_its_channels_largest(tmp_path):
    network = Chain(3, 16).conv(8, 3).op("Relu").conv(4, 1).save(tmp_path / "n.onnx")
    quantize(network, tmp_path / "q.onnx", Plan(), EXAMPLES)
    float_weight = onnx.numpy_helper.to_array(onnx.load(network).graph.initializer[0])
    held = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(tmp_path / "q.onnx").graph.initializer
    }
    codes, scales = held["c0_quantized"], held["c0_scale"]
    assert codes.dtype == np.int8
    expected = np.abs(float_weight).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(scales, expected, rtol=1e-5)
    rounded = codes * scales[:, None, None, None]
    assert np.all(np.abs(rounded - float_weight) <= scales[:, None, None, None] / 2 + 1e-7)


def test_the_transform_takes_ranges_from_training_examples(network, tmp_path):
    asked = []

    def examples(count):
        asked.append(count)
        return torch.from_numpy(EXAMPLES)

    transform = quantizing(Plan())
    assert transform.write is not None and transform.prepare is None
    given = Given(TaskSpec("t", (3, 16, 16), 10), examples)
    report = transform.write(network, tmp_path / "q.onnx", given)
    assert asked == [128] and len(report.touched) == 4


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "n.onnx").write_bytes(b"nothing")
    with pytest.raises(NasError, match="cannot be quantized"):
        quantize(tmp_path / "n.onnx", tmp_path / "q.onnx", Plan(), EXAMPLES)
    assert [p.name for p in tmp_path.iterdir()] == ["n.onnx"]
