from typing import get_args

import pytest
from onnx_networks import Chain, mixed, quantized

from nas.core.job import Workload
from nas.hardware.prediction.kernels import LAST, Form, conv_family, lower, totals

FORMS = get_args(Form)


def by_op(lowered):
    found = {}
    for kernel in lowered.kernels:
        found.setdefault(kernel.op, []).append(kernel)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_macs_are_those_counted_by_hand(tmp_path, form):
    lowered = lower(mixed(tmp_path / "n.onnx", 16, 15, 16), form)
    pixels = 16 * 16
    dense, depthwise, pointwise = 3 * 9 * 16, 15 * 15 * 16, 2 * 16 * 64
    # A blocked layout pads three input channels to its block; nothing else may differ.
    assert lowered.macs == (dense + depthwise + pointwise) * pixels + 160
    assert not lowered.unknown


def test_flops_and_bytes_of_a_convolution_by_hand(tmp_path):
    path = Chain(8, 10).conv(12, 5, stride=2).save(tmp_path / "c.onnx")
    [kernel] = lower(path, "torch eager", Workload(batch=2)).kernels
    assert kernel.family == "conv.other" and kernel.kind == "conv.other/fp32/nchw"
    assert kernel.flops == 2 * 2 * 12 * 25 * (8 * 25)
    assert kernel.bytes_read == 4 * 2 * 8 * 100
    assert kernel.bytes_written == 4 * 2 * 12 * 25
    assert kernel.bytes_weights == 4 * (12 * 8 * 25 + 12)
    assert kernel.sizes == {"m": 50, "n": 12, "k": 200, "side": 5}


@pytest.mark.parametrize(
    ("kernel", "family"),
    [(3, "small"), (5, "small"), (7, "medium"), (13, "medium"), (15, "large"), (31, "large")],
)
def test_the_depthwise_cliff_is_a_class(tmp_path, kernel, family):
    path = Chain(16, 32).conv(16, kernel, groups=16).save(tmp_path / "d.onnx")
    for form in FORMS:
        families = [k.family for k in lower(path, form).kernels]
        assert f"depthwise.{family}" in families


def test_conv_families():
    assert conv_family(1, 8, 8, (1, 1), (1, 1)) == "pointwise"
    assert conv_family(1, 8, 8, (3, 3), (2, 2)) == "conv.other"
    assert conv_family(1, 8, 8, (3, 3), (1, 1), plain=False) == "conv.other"
    assert conv_family(1, 1, 1, (3, 3), (1, 1)) == "conv.3x3"
    assert conv_family(4, 2, 2, (3, 3), (1, 1)) == "grouped"
    assert conv_family(8, 1, 1, (1, 17), (1, 1)) == "depthwise.stripe"
    assert conv_family(8, 1, 1, (3, 3), (1, 1), plain=False) == "depthwise.dilated"
    assert conv_family(8, 1, 2, (3, 3), (1, 1)) == "grouped"


def test_eager_torch_launches_each_operator_compiled_torch_fuses(tmp_path):
    net = Chain(16, 16).conv(16, 3).op("Relu").op("Sqrt").op("Neg").conv(16, 1)
    path = net.save(tmp_path / "n.onnx")
    eager = [k.op for k in lower(path, "torch eager").kernels]
    compiled = [k.op for k in lower(path, "torch compiled").kernels]
    assert eager == ["Conv", "Relu", "Sqrt", "Neg", "Conv"]
    assert compiled == ["Conv", "Relu+Sqrt+Neg", "Conv"]
    chain = lower(path, "torch compiled").kernels[1]
    assert chain.bytes == 2 * 4 * 16 * 16 * 16  # read once, written once


def test_compiled_torch_does_not_fuse_across_a_second_reader(tmp_path):
    net = Chain(16, 16).op("Relu")
    kept = net.at
    net.op("Neg").op("Add", kept)
    ops = [k.op for k in lower(net.save(tmp_path / "n.onnx"), "torch compiled").kernels]
    assert ops == ["Relu", "Neg+Add"]


def test_silu_is_one_kernel_of_torch(tmp_path):
    net = Chain(16, 16).conv(16, 1)
    kept = net.at
    net.op("Sigmoid").op("Mul", kept)
    ops = [k.op for k in lower(net.save(tmp_path / "n.onnx"), "torch eager").kernels]
    assert ops == ["Conv", "Sigmoid+Mul"]


def test_views_are_counted_not_timed(tmp_path):
    net = Chain(16, 16).op("GlobalAveragePool").op("Flatten").linear(4)
    lowered = lower(net.save(tmp_path / "n.onnx"), "torch eager")
    assert [k.family for k in lowered.kernels] == ["reduce.globalaveragepool", "gemm"]
    assert lowered.views == 1


@pytest.mark.parametrize("form", FORMS)
def test_an_operator_without_a_rule_is_listed_never_free(tmp_path, form):
    net = Chain(16, 16).op("Relu").op("Hardmax", axis=1).op("Neg")
    lowered = lower(net.save(tmp_path / "n.onnx"), form)
    assert lowered.unknown == {"Hardmax": 1}
    assert len(lowered.kernels) == 2


def test_signatures_agree_where_the_duration_must(tmp_path):
    one = lower(mixed(tmp_path / "a.onnx", seed=1), "onnxruntime")
    two = lower(mixed(tmp_path / "b.onnx", seed=2), "onnxruntime")
    assert [k.signature for k in one.kernels] == [k.signature for k in two.kernels]
    three = lower(mixed(tmp_path / "c.onnx", width=32), "onnxruntime")
    assert {k.signature for k in three.kernels}.isdisjoint({k.signature for k in one.kernels[:3]})
    batch = lower(mixed(tmp_path / "a.onnx"), "onnxruntime", Workload(batch=2))
    assert {k.signature for k in batch.kernels}.isdisjoint({k.signature for k in one.kernels})


def test_norms_softmax_products_and_copies_have_their_sizes(tmp_path):
    import numpy as np

    net = Chain(8, 12)
    scale, shift = (net.constant(np.ones(12, np.float32)) for _ in range(2))
    net.op("LayerNormalization", scale, shift, axis=-1).op("Softmax", axis=-1)
    left = net.at
    net.op("MatMul", left).op("Concat", left, axis=1)
    found = by_op(lower(net.save(tmp_path / "n.onnx"), "torch eager"))
    assert found["LayerNormalization"][0].sizes == {"rows": 96, "width": 12}
    assert found["Softmax"][0].family == "softmax"
    assert found["MatMul"][0].family == "bmm"
    assert found["MatMul"][0].sizes == {"b": 8, "m": 12, "n": 12, "k": 12}
    assert found["MatMul"][0].flops == 2 * 8 * 12**3
    assert found["Concat"][0].bytes_written == 2 * 4 * 8 * 12 * 12


def test_what_turns_images_round_has_its_sizes(tmp_path):
    import numpy as np

    net = Chain(8, 12)
    weight = net.constant(np.ones((8, 3, 5, 2), np.float32))
    net.op("ConvTranspose", weight, group=2)  # 12 x 12 becomes 16 x 13, of 6 channels
    net.op("MaxPool", kernel_shape=[3, 2]).op("ReduceMax", keepdims=1, axes=[3])
    found = by_op(lower(net.save(tmp_path / "n.onnx", opset=13), "torch eager", Workload(batch=2)))
    [turned], [pooled], [reduced] = (found[k] for k in ("ConvTranspose", "MaxPool", "ReduceMax"))
    assert (turned.family, turned.sizes) == ("transposed", {"m": 2 * 6 * 16 * 13, "k": 30})
    assert turned.flops == 2 * (2 * 8 * 144) * 30
    assert (pooled.family, pooled.sizes) == ("pool", {"count": 2 * 6 * 14 * 12, "window": 6})
    assert pooled.flops == 2 * 6 * 14 * 12 * 6
    assert (reduced.family, reduced.sizes) == ("reduce.reducemax", {"rows": 168, "width": 12})
    assert reduced.flops == pooled.flops / 6


def test_an_image_made_larger_counts_what_is_written(tmp_path):
    import numpy as np

    net = Chain(4, 6)
    scales = net.constant(np.array([1, 1, 2, 3], np.float32))
    net.op("Resize", "", scales, mode="nearest")
    [kernel] = lower(net.save(tmp_path / "n.onnx"), "torch eager").kernels
    assert (kernel.family, kernel.sizes, kernel.flops) == ("resize", {"count": 864}, 8 * 864)


def test_grouped_and_turned_products_by_hand(tmp_path):
    import numpy as np

    net = Chain(8, 6).conv(12, 3, groups=4).op("GlobalAveragePool").op("Flatten")
    weight = net.constant(np.ones((1, 5), np.float32))
    net.op("Gemm", weight, transA=1)  # (1, 12) turned, times (1, 5)
    found = by_op(lower(net.save(tmp_path / "n.onnx"), "torch eager"))
    [conv], [product] = found["Conv"], found["Gemm"]
    assert (conv.family, conv.sizes) == ("grouped", {"b": 4, "m": 36, "n": 3, "k": 18, "side": 6})
    assert (product.sizes, product.flops) == ({"m": 12, "n": 5, "k": 1}, 2 * 12 * 5)


def test_totals_name_the_classes(tmp_path):
    rows = list(totals(lower(mixed(tmp_path / "n.onnx"), "torch eager").kernels))
    assert rows[0][0] == "depthwise.large/fp32/nchw"
    assert sum(row[1] for row in rows) == 8


def test_channels_last_kernels_of_int8_are_read_as_such(tmp_path):
    plain = Chain(16, 12).conv(32, 3).save(tmp_path / "n.onnx")
    lowered = lower(quantized(plain, tmp_path / "q.onnx"), "onnxruntime")
    [conv] = [k for k in lowered.kernels if k.op == "QLinearConv"]
    assert conv.dtype == "int8" and conv.layout == "nhwc" and conv.family == "conv.3x3"
    assert conv.sizes == {"m": 144, "n": 32, "k": 144, "side": 12}
    assert conv.bytes_read < lower(plain, "torch eager").kernels[0].bytes_read / 3
    assert not lowered.unknown


def test_tensorrt_runs_an_operator_and_the_conversions_around_it_as_one(tmp_path):
    plain = Chain(16, 12).conv(32, 3).op("Relu").conv(32, 3).save(tmp_path / "n.onnx")
    int8 = lower(quantized(plain, tmp_path / "q.onnx"), "tensorrt").kernels
    assert [k.op for k in int8 if k.family == "conv.3x3"] == ["QLinearConv"] * 2
    assert {k.dtype for k in int8 if k.family == "conv.3x3"} == {"int8"} and len(int8) == 4
    net = Chain(16, 16).conv(16, 3).op("Sqrt").op("Neg").conv(16, 1).save(tmp_path / "c.onnx")
    assert [k.op for k in lower(net, "tensorrt").kernels] == ["Conv", "Sqrt+Neg", "Conv"]


def test_channels_last_is_a_class_of_its_own_for_what_works_on_images(tmp_path):
    path = mixed(tmp_path / "n.onnx", 16, 31)
    plain, last = (lower(path, f"torch eager{more}").kernels for more in ("", LAST))
    assert {k.layout for k in plain} == {"nchw"} and [k.op for k in plain] == [k.op for k in last]
    images = [k.family.startswith(("conv", "depthwise", "pointwise")) for k in last]
    assert [k.layout == "nhwc" for k in last] == images
    # One that was timed in a layout is no measurement of the other.
    assert [a.signature != b.signature for a, b in zip(plain, last, strict=True)] == images
