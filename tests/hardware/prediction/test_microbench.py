import numpy as np
import onnx
import onnxruntime
import pytest
from busy import however_busy
from onnx_networks import Chain, mixed

from nas.core.job import Workload
from nas.hardware.prediction.kernels import lower
from nas.hardware.prediction.microbench import RULES, distinct, time_kernels, write


def run(path, level, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


def test_kernels_run_alone_one_after_the_other_are_the_network(tmp_path):
    path = mixed(tmp_path / "n.onnx")
    network = lower(path, "onnxruntime", Workload(batch=2))
    image = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    levels = onnxruntime.GraphOptimizationLevel
    values = {"input": image}
    views = [n for n in network.graph.nodes if n.op_type in ("Reshape", "Flatten", "Squeeze")]
    for place, nodes in enumerate(network.nodes):
        for view in views:
            if view.input[0] in values:
                shape = network.graph.outputs(view)[0].dims
                values[view.output[0]] = values[view.input[0]].reshape(shape)
        file = tmp_path / f"{place}.onnx"
        assert write(network.graph, nodes, 2, file)
        outputs = run(file, levels.ORT_ENABLE_ALL, values)
        values.update(zip(nodes[-1].output, outputs, strict=True))
    [expected] = run(path, levels.ORT_DISABLE_ALL, {"input": image})
    np.testing.assert_allclose(values[nodes[-1].output[0]], expected, rtol=1e-3, atol=1e-4)


def test_a_kernel_keeps_its_layout(tmp_path):
    network = lower(Chain(16, 16).conv(16, 3).save(tmp_path / "n.onnx"), "onnxruntime")
    native = [i for i, k in enumerate(network.kernels) if k.layout == "nchwc"]
    if not native:
        pytest.skip("this processor has no blocked layout")
    assert write(network.graph, network.nodes[native[0]], 1, tmp_path / "k.onnx")
    [node] = onnx.load(tmp_path / "k.onnx").graph.node
    assert node.domain == "com.microsoft.nchwc"


def test_a_kernel_without_an_input_to_run_it_is_refused(tmp_path):
    network = lower(mixed(tmp_path / "n.onnx"), "onnxruntime")
    assert not write(network.graph, network.nodes[0], 7, tmp_path / "k.onnx")


def test_equal_kernels_are_timed_once(tmp_path):
    nets = [lower(mixed(tmp_path / f"{s}.onnx", seed=s), "onnxruntime") for s in (1, 2)]
    found = distinct(nets)
    assert len(found) <= len(nets[0].kernels)
    assert all(network is nets[0] for network, _ in found.values())


@pytest.mark.slow
def test_times_are_positive_and_grow_with_the_work(tmp_path, cpu, lease):
    small, large = (
        lower(Chain(64, side).conv(64, 3).save(tmp_path / f"{side}.onnx"), "onnxruntime")
        for side in (8, 64)
    )
    rules = however_busy(RULES)
    times, failed = time_kernels(distinct([small, large]), cpu, lease, rules=rules)
    assert not failed

    def total(network):
        return sum(times[k.signature] for k in network.kernels)

    assert total(large) > 5 * total(small) > 0
    assert RULES.version != type(RULES)().version  # never compared with ordinary timings
