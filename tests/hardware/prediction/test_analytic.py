import numpy as np
import pytest
from onnx_networks import Chain

from nas.hardware.prediction import analytic
from nas.hardware.prediction.kernels import lower


def same(ours, lowered):
    for field in ("family", "dtype", "layout", "sizes", "flops", "bytes_read", "bytes_written"):
        assert getattr(ours, field) == getattr(lowered, field), field


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "side", "stride", "groups"),
    [(8, 12, 3, 14, 1, 1), (8, 16, 5, 15, 2, 1), (16, 16, 31, 16, 1, 16), (8, 8, 3, 9, 1, 4),
     (6, 10, 1, 7, 1, 1)],
)  # fmt: skip
def test_convolutions_are_those_of_a_file(tmp_path, inputs, outputs, kernel, side, stride, groups):
    net = Chain(inputs, side).conv(outputs, kernel, stride, groups)
    [found] = lower(net.save(tmp_path / "n.onnx"), "torch eager").kernels
    made = analytic.conv(1, inputs, outputs, kernel, side, stride, groups)
    same(made, found)
    assert made.bytes_weights == found.bytes_weights


def test_other_operators_are_those_of_a_file(tmp_path):
    net = Chain(8, 12)
    scale, shift = (net.constant(np.ones(12, np.float32)) for _ in range(2))
    net.op("LayerNormalization", scale, shift, axis=-1).op("Softmax", axis=-1).op("Relu")
    norm, softmax, relu = lower(net.save(tmp_path / "n.onnx"), "torch eager").kernels
    same(analytic.norm(96, 12), norm)
    same(analytic.softmax(96, 12), softmax)
    same(analytic.elementwise("Relu", 8 * 144), relu)
    same(analytic.linear(1, 10, 16), _linear(tmp_path))


def _linear(tmp_path):
    net = Chain(16, 1).op("Flatten").linear(10)
    return lower(net.save(tmp_path / "l.onnx"), "torch eager").kernels[0]


def test_products_and_means():
    assert analytic.bmm(3, 4, 5, 6).flops == 2 * 3 * 4 * 5 * 6
    assert analytic.mean(16, 49).bytes == 4 * (16 * 49 + 16)
