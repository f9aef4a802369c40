import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nas.deploy.graph import WEIGHTS, build_digest


def _graph(weight, axes=(1,), names=("x", "w", "y", "z"), stride=1, size=8, swap=False, known=True):
    x, w, y, z = names
    nodes = [
        helper.make_node("Conv", [x, w], [y], strides=[stride, stride]),
        helper.make_node("ReduceMean", [y, "axes"], [z], keepdims=0),
    ]
    if swap:
        nodes[0] = helper.make_node("ConvTranspose", [x, w], [y], strides=[stride, stride])
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info(z, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight.astype(np.float32), w),
         numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )  # fmt: skip
    proto = helper.make_model(graph, producer_name=names[0])
    if known:
        helper.set_model_props(proto, {WEIGHTS: w})
    return proto


WEIGHT = np.ones((3, 3, 3, 3))
SAME = build_digest(_graph(WEIGHT))


def test_weights_names_and_producers_do_not_count():
    assert build_digest(_graph(WEIGHT * 2)) == SAME
    assert build_digest(_graph(WEIGHT, names=("a", "b", "c", "d"))) == SAME


def test_everything_else_counts():
    others = [
        build_digest(_graph(np.ones((3, 3, 5, 5)))),
        build_digest(_graph(WEIGHT, axes=(2,))),
        build_digest(_graph(WEIGHT, stride=2)),
        build_digest(_graph(WEIGHT, size=16)),
        build_digest(_graph(WEIGHT, swap=True)),
        build_digest(_graph(WEIGHT, known=False)),
    ]
    assert len({*others, SAME}) == len(others) + 1


def test_topology_counts():
    def graph(first, second):
        nodes = [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Add", [first, second], ["y"]),
        ]
        value = helper.make_tensor_value_info
        made = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1])],
                                 [value("y", TensorProto.FLOAT, [1])])  # fmt: skip
        return build_digest(helper.make_model(made))

    assert len({graph("a", "b"), graph("b", "a"), graph("b", "b")}) == 3


def test_constants_inside_attributes_count():
    def graph(number):
        value = numpy_helper.from_array(np.array(number, np.float32))
        node = helper.make_node("Constant", [], ["y"], value=value)
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
        return build_digest(helper.make_model(helper.make_graph([node], "g", [], [out])))

    assert graph(0.5) == graph(0.5) != graph(0.25)
