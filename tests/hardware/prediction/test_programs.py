import numpy as np
import onnxruntime
import pytest
import torch
from busy import however_busy
from onnx import numpy_helper
from onnx_networks import Chain

from nas.hardware.prediction.kernels import lower
from nas.hardware.prediction.microbench import RULES, distinct, time_kernels
from nas.hardware.prediction.programs import _Kernel, write
from nas.hardware.runtimes import Runtime

TORCH = Runtime("torch")
OPERATORS = {
    "conv": lambda: Chain().conv(24, 3, stride=2),
    "depthwise": lambda: Chain().conv(16, 7, groups=16),
    "gate": lambda: _gated(Chain()),
    "gelu": lambda: Chain().op("Gelu", approximate="tanh"),
    "mean": lambda: _mean(Chain()),
    "pool": lambda: Chain().op("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "softmax": lambda: Chain().op("Softmax", axis=1),
    "linear": lambda: Chain().op("GlobalAveragePool").op("Flatten").linear(10),
}


def _gated(chain):
    before = chain.at
    chain.op("Sigmoid")
    return chain.op("Mul", before)


def _mean(chain):
    return chain.op("ReduceMean", chain.constant(np.array([2, 3])), keepdims=0)


@pytest.mark.parametrize("name", OPERATORS)
def test_torch_computes_what_the_operators_of_the_file_do(name, tmp_path):
    network = lower(OPERATORS[name]().save(tmp_path / "n.onnx"), "torch eager")
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    value = np.random.default_rng(0).standard_normal((1, 16, 16, 16)).astype(np.float32)
    (expected,) = session.run(None, {"input": value})
    result = torch.from_numpy(value)
    for nodes in network.nodes:
        reads = [n for node in nodes for n in node.input if n and n not in network.graph.constants]
        made = [name for node in nodes for name in node.output]
        given = next(n for n in reads if n not in made)
        others = [n for node in nodes for n in node.input if n in network.graph.constants]
        module = _Kernel(network.graph, nodes, given, others, 1)
        for name_, key in module.keys.items():
            if key in module.weights:
                array = numpy_helper.to_array(network.graph.constants[name_])
                module.weights[key].data = torch.from_numpy(array.copy())
        result = module(result.reshape(network.graph.values[given].dims))
    np.testing.assert_allclose(result.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_what_torch_has_no_line_for_is_left_to_the_laws(tmp_path):
    network = lower(Chain().op("Ceil").save(tmp_path / "n.onnx"), "torch eager")
    assert not write(network.graph, network.nodes[0], 1, tmp_path / "k.pt2", TORCH)
    padded = Chain()
    weight = padded.constant(np.ones((4, 16, 2, 2), np.float32))
    padded.op("Conv", weight, kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    network = lower(padded.save(tmp_path / "p.onnx"), "torch eager")
    assert not write(network.graph, network.nodes[0], 1, tmp_path / "k.pt2", TORCH)


@pytest.mark.slow
def test_kernels_are_timed_as_programs_where_the_runtime_is_torch(tmp_path, cpu, lease):
    chain = Chain(32, 32).conv(32, 3).op("Relu").op("Ceil")
    network = lower(chain.save(tmp_path / "n.onnx"), "torch eager")
    kernels, rules = distinct([network]), however_busy(RULES)
    times, failed = time_kernels(kernels, cpu.under("torch"), lease, rules=rules)
    conv, relu, ceil = (k.signature for k in network.kernels)
    assert times[conv] > times[relu] > 0
    assert failed == {ceil: "it cannot be run alone"}
