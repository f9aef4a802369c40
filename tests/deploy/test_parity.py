import numpy as np
import pytest
import torch

from nas.core.errors import NasError
from nas.core.task import Task
from nas.deploy.export import export
from nas.deploy.parity import check, compare, validation_inputs


def _rows(*rows):
    return np.array(rows, np.float64)


def test_differences():
    found = compare(_rows([1, 2], [4, 3]), _rows([1, 2.5], [3, 4]), 0.1)
    assert (found.max_abs, found.mean_abs, found.relative) == (1.0, 0.625, 0.25)
    assert found.top1_agreement == 0.5
    assert (found.n, found.passed) == (2, False)


def test_the_threshold_is_relative():
    assert compare(_rows([1000.0, 0]), _rows([1000.5, 0]), 1e-3).passed
    assert not compare(_rows([1.0, 0]), _rows([1.5, 0]), 1e-3).passed


def test_too_many_other_classes_fail_however_small_the_difference():
    outputs = np.array([[1.0, 1.0001]] * 4)
    assert compare(outputs, outputs[:, ::-1], 1e-2).passed
    found = compare(outputs, outputs[:, ::-1], 1e-2, 0.9)
    assert not found.passed and found.excess == ("agreement>=0.9", 1.0)
    assert "the same class for 0.0% of 4 (at least 90%)" in found.said
    half = compare(outputs, np.concatenate([outputs[:2], outputs[:2, ::-1]]), 1e-2, 0.5)
    assert half.passed and half.excess[1] <= 0


def test_outputs_that_are_no_classes():
    assert compare(np.ones((2, 3, 4)), np.ones((2, 3, 4)), 1e-3).top1_agreement is None


def test_all_zero():
    assert compare(np.zeros((2, 3)), np.zeros((2, 3)), 1e-3).passed


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_must_be_finite(wrong):
    with pytest.raises(NasError, match="not finite"):
        compare(_rows([1.0, 2.0]), _rows([1.0, wrong]), 1e-3)


def test_shapes_must_agree():
    with pytest.raises(NasError, match=r"outputs \(1, 2\), the module \(2, 1\)"):
        compare(np.ones((2, 1)), np.ones((1, 2)), 1e-3)


def test_on_a_task(make, tmp_path):
    def batches(split, seed):
        assert (split, seed) == ("validation", 0)
        for start in range(0, 600, 100):
            yield torch.arange(start, start + 100).view(-1, 1, 1, 1).expand(-1, 3, 16, 16) / 600, 0

    task = Task((3, 16, 16), 10, batches, lambda o, t: o, lambda o, t: o)
    inputs = validation_inputs(task, 256)
    assert inputs.shape == (256, 3, 16, 16)
    assert inputs[255, 0, 0, 0] == np.float32(255 / 600)
    module = make(0)
    export(module, (3, 16, 16), tmp_path / "net.onnx")
    found = check(module, tmp_path / "net.onnx", task)
    assert found.passed
    assert found.n == 256
    assert found.relative < 1e-5
    assert not check(make(1), tmp_path / "net.onnx", task).passed
