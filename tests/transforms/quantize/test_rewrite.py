"""Formats written node by node: near to fp32, computed or only stored as the device has it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_networks import Chain, mixed

from nas.hardware.runtimes import Runtime
from nas.hardware.runtimes.onnxruntime import opened
from nas.transforms.quantize.file import CPU, quantize
from nas.transforms.quantize.plan import FORMATS, Plan, layers

EXAMPLES = np.random.default_rng(0).standard_normal((32, 3, 16, 16)).astype(np.float32)
# the largest difference that a format may make, of the largest output of a random network
CLOSE = {"fp16": 2e-3, "bf16": 2e-2, "fp8": 0.15, "int8-dynamic": 0.05, "int8-weights": 0.05,
         "int8": 0.1, "int6": 0.2, "int4": 0.8, "int4-weights": 0.4, "int2": 3.0}  # fmt: skip


def outputs(path: Path, folder: Path) -> tuple[np.ndarray, Counter[str]]:
    """What a file answers, and the operators that the runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    found = session.run(None, {"input": EXAMPLES[:8]})[0]
    return found, Counter(n.op_type for n in onnx.load(folder / "loaded.onnx").graph.node)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"fp32"}))
def test_every_format_answers_nearly_as_fp32_in_fewer_bytes(name: str, tmp_path: Path) -> None:
    network = mixed(tmp_path / "n.onnx", width=32, kernel=5)
    right, _ = outputs(network, tmp_path)
    plan = Plan((name,) * 4, depthwise=name != "int2")
    report = quantize(network, tmp_path / "q.onnx", plan, EXAMPLES)
    close, ops = outputs(tmp_path / "q.onnx", tmp_path)
    assert np.abs(right - close).max() <= CLOSE[name] * np.abs(right).max()
    assert not np.array_equal(right, close)
    if name != "int8-dynamic":  # whose convolutions stay as they are
        assert (tmp_path / "q.onnx").stat().st_size < network.stat().st_size
    assert len(report.touched) + len(report.skipped) == 5
    if FORMATS[name].how == "float":  # without a kernel, fp32 once the file is loaded
        assert "storage only" in report.notes[0]
        assert not set(ops) & {"Cast", "Mul", "QuantizeLinear", "DequantizeLinear"}


def test_products_of_matrices_are_computed_in_their_format(tmp_path: Path) -> None:
    network = Chain(channels=3, side=16)
    network.op("Flatten")
    network.channels = 3 * 16 * 16
    network.linear(64)
    network.op("Relu")
    network.linear(48)
    network.op("Relu")
    network.linear(10)
    path = network.save(tmp_path / "mlp.onnx")
    blocks = "MatMulNBits"
    pairs = {
        "int8-dynamic": "DynamicQuantizeMatMul",
        "int4-weights": blocks,
        "int8-weights": blocks,
    }
    for name, operator in pairs.items():
        quantize(path, tmp_path / "q.onnx", Plan((name,) * 4), EXAMPLES)
        assert outputs(tmp_path / "q.onnx", tmp_path)[1][operator] == 3
        quantize(path, tmp_path / "s.onnx", Plan((name,) * 4), EXAMPLES, kernels=("int8",))
        if name != "int8-dynamic":
            assert not outputs(tmp_path / "s.onnx", tmp_path)[1][operator]


def test_where_there_are_kernels_short_floats_are_computed_in(tmp_path: Path) -> None:
    network = mixed(tmp_path / "n.onnx", width=32, kernel=5)
    right, _ = outputs(network, tmp_path)
    for name, count in (("fp16", 5), ("fp8", 5)):
        plan = Plan((name,) * 4, depthwise=True)
        report = quantize(
            network, tmp_path / "q.onnx", plan, EXAMPLES, kernels=(*CPU, "fp16", "fp8")
        )
        assert report.notes == ()
        proto = onnx.load(tmp_path / "q.onnx")
        made = {n.output[0]: n for n in proto.graph.node}
        inputs = [made[n.input[0]] for n in proto.graph.node if n.op_type in ("Conv", "Gemm")]
        kinds = {"fp16": "Cast", "fp8": "DequantizeLinear"}
        assert [n.op_type for n in inputs] == [kinds[name]] * count
        run, _ = opened(tmp_path / "q.onnx", Runtime("onnxruntime"), "cpu", 1)
        found = run(EXAMPLES[:8])
        assert np.abs(right - found).max() <= CLOSE[name] * 2 * np.abs(right).max()


def test_products_too_small_for_fp8_stay_fp32_where_time_alone_counts(tmp_path: Path) -> None:
    network = mixed(tmp_path / "n.onnx", width=32, kernel=5)
    plan, kernels = Plan(("fp8",) * 4, depthwise=True), (*CPU, "fp8")
    found = layers(onnx.load(network))
    # 32 of 3 x 3 x 3, depthwise 5 x 5 (a product for each channel), 32 -> 128 -> 32; 32 -> 10
    products = [(256, 32, 27), (256, 1, 25), (256, 128, 32), (256, 32, 128), (1, 10, 32)]
    assert [layer.product for layer in found] == products
    enough = 2048**3 // (256 * 128 * 32)  # in a call, for the two wide ones
    for batch, gaining in ((1, 0), (enough - 1, 0), (enough, 2), (None, 5)):
        report = quantize(network, tmp_path / "q.onnx", plan, EXAMPLES, kernels, batch)
        assert len(report.touched) == gaining and len(report.skipped) == 5 - gaining
        held = {t.data_type for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
        assert (onnx.TensorProto.FLOAT8E4M3FN in held) == bool(gaining)
    report = quantize(network, tmp_path / "q.onnx", plan, EXAMPLES, kernels, 2)
    assert "2048 x 2048 x 2048: with 2 in a call its product is M=512, N=32, K=27" in str(
        report.skipped[0]
    )


@pytest.mark.parametrize("name", ["int8-weights", "int4-weights"])
def test_short_weights_are_left_to_few_rows_where_time_alone_counts(
    tmp_path: Path, name: str
) -> None:
    network = mixed(tmp_path / "n.onnx", kernel=5)  # four convolutions, and a product of one row
    plan = Plan((name,) * 4, depthwise=True)
    for batch, gaining in ((1, 1), (15, 1), (16, 0), (None, 5)):
        report = quantize(network, tmp_path / "q.onnx", plan, EXAMPLES, CPU, batch)
        assert len(report.touched) == gaining and len(report.skipped) == 5 - gaining
        made = outputs(tmp_path / "q.onnx", tmp_path)[1]["MatMulNBits"]
        assert made == (batch is None or batch < 16)
    report = quantize(network, tmp_path / "q.onnx", plan, EXAMPLES, CPU, 20)
    why = dict(report.skipped)
    assert "no kernel of convolutions" in str(report.skipped[0])
    assert any("with 20 in a call there are 20" in line for line in why.values())


def test_convolutions_are_never_quantized_in_each_call(tmp_path: Path) -> None:
    network = mixed(tmp_path / "n.onnx", kernel=5)
    report = quantize(network, tmp_path / "q.onnx", Plan(("int8-dynamic",) * 4), EXAMPLES)
    convolutions = sum(not layer.linear for layer in layers(onnx.load(network)))
    reasons = [why for _, why in report.skipped]
    assert len(reasons) == convolutions == 4
    assert set(reasons) == {
        "int8-dynamic convolutions are slower than fp32 ones",
        "depthwise convolutions are fp32",
    }


def test_several_formats_of_few_bits_share_one_string(tmp_path: Path) -> None:
    network = mixed(tmp_path / "n.onnx", width=32, kernel=5)
    plan = Plan(("int4", "int4-weights", "int6", "fp16"), depthwise=True, ends=False)
    quantize(network, tmp_path / "q.onnx", plan, EXAMPLES)
    names = [t.name for t in onnx.load(tmp_path / "q.onnx").graph.initializer]
    assert names.count("packed") == 1
    assert outputs(tmp_path / "q.onnx", tmp_path)[0].shape == (8, 10)
