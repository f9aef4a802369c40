import pytest
from onnx_networks import Chain, mixed

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.hardware.prediction.lowering import attributes, lowered


def ops(graph):
    return [node.op_type for node in graph.nodes]


def test_the_runtime_fuses_what_it_fuses(tmp_path):
    path = mixed(tmp_path / "n.onnx")
    assert ops(lowered(path, level="folded")).count("Relu") == 1
    fused = ops(lowered(path, level="fused"))
    assert "Relu" not in fused and "FusedConv" in fused


def test_patterns_of_the_literature_become_one_operator(tmp_path):
    gelu = Chain(8, 8)
    before = gelu.at
    gelu.op("Div", gelu.constant([1.4142135381698608]).strip()).op("Erf")
    gelu.op("Add", gelu.constant([1.0]))
    gelu.nodes[0].input[0] = before
    for weight in gelu.weights:
        weight.CopyFrom(_single(weight))
    gelu.op("Mul", "input").op("Mul", _scalar(gelu, 0.5))
    assert ops(lowered(gelu.save(tmp_path / "gelu.onnx"), level="fused")) == ["Gelu"]


def _single(tensor):
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor).astype("float32").reshape(())
    return numpy_helper.from_array(values, tensor.name)


def _scalar(net, value):
    name = net.constant(value)
    net.weights[-1].CopyFrom(_single(net.weights[-1]))
    return name


def test_every_value_has_its_shape_in_every_level(tmp_path):
    path = mixed(tmp_path / "n.onnx", side=12)
    for level in ("folded", "fused", "native"):
        graph = lowered(path, Workload(batch=3), level)
        for node in graph.nodes:
            for name in (*node.input, *node.output):
                assert not name or name in graph.values, (level, name)
        last = graph.outputs(graph.nodes[-1])[0]
        assert last.dims == (3, 10) and last.bytes == 120 and last.dtype == "fp32"


def test_constants_are_known_as_such(tmp_path):
    graph = lowered(mixed(tmp_path / "n.onnx"), level="folded")
    conv = graph.nodes[0]
    data, weight, bias = graph.inputs(conv)
    assert not data.constant and weight.constant and bias.constant
    assert attributes(conv)["kernel_shape"] == [3, 3]


def test_what_is_no_network_is_said(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    with pytest.raises(NasError, match=r"not an ONNX file.*x\.onnx"):
        lowered(tmp_path / "x.onnx")
    unknown = Chain().op("NoSuchOperator").save(tmp_path / "u.onnx")
    with pytest.raises(NasError, match="NoSuchOperator"):
        lowered(unknown)


def test_a_free_side_needs_the_workload_to_say_it(tmp_path):
    net = Chain(4, 8).conv(4, 3)
    net.shape = ["batch", 4, "side", "side"]
    path = net.save(tmp_path / "free.onnx")
    with pytest.raises(NasError, match="leaves dimension 2 free"):
        lowered(path)
    graph = lowered(path, Workload(batch=2, resolution=20), "folded")
    assert graph.outputs(graph.nodes[-1])[0].dims == (2, 4, 20, 20)
