import pytest
import torch
from torch import nn

from nas.core.job import Workload
from nas.deploy import forms
from nas.deploy.export import export
from nas.hardware.agent.onnxgraph import Node, nodes
from nas.hardware.counting import count
from nas.hardware.layers import (
    ITSELF,
    RUNTIME,
    TOLERANCE,
    Kernel,
    Profile,
    counted,
    homes,
    origins,
    profiled,
    timed,
)
from nas.hardware.timing import measure

# What onnxruntime makes of  conv -> relu -> conv + x -> gelu (of primitives) -> gemm  in blocked
# layout: activations and sums inside convolutions, values renamed, changes of layout between.
FILE = [
    Node("n0", "Conv", ["x", "w0"], ["c0"]),
    Node("n1", "Relu", ["c0"], ["r0"]),
    Node("n2", "Conv", ["r0", "w1"], ["c1"]),
    Node("n3", "Add", ["c1", "c0"], ["s"]),
    Node("n4", "Div", ["s", "k"], ["d"]),
    Node("n5", "Erf", ["d"], ["e"]),
    Node("n6", "Add", ["e", "k"], ["f"]),
    Node("n7", "Mul", ["s", "f"], ["g"]),
    Node("n8", "Transpose", ["w2"], ["wt"]),
    Node("n9", "MatMul", ["g", "wt"], ["m"]),
    Node("n10", "Add", ["m", "b"], ["y"]),
]
KERNELS = [
    Kernel("ReorderInput", "ReorderInput", ["x"], ["t0"], 1.0),
    Kernel("c0_nchwc", "Conv", ["t0", "w0"], ["t1"], 1.0),
    Kernel("n1", "Relu", ["t1"], ["t2"], 1.0),
    Kernel("c1_nchwc", "Conv", ["t2", "w1", "", "t1"], ["t3"], 1.0),
    Kernel("ReorderOutput_1", "ReorderOutput", ["t3"], ["s"], 1.0),
    Kernel("Gelu_7", "Gelu", ["s"], ["g"], 1.0),
    Kernel("n9/MatMulAddFusion", "Gemm", ["g", "wt", "b"], ["y"], 1.0),
]


def test_kernels_are_traced_to_the_operators_they_do_the_work_of():
    assert origins(FILE, KERNELS) == [
        ["n0"], ["n0"], ["n1"], ["n2", "n3"], ["n2", "n3"], ["n4", "n5", "n6", "n7"],
        ["n8", "n9", "n10"],
    ]  # fmt: skip


def test_folded_batch_norms_and_fused_activations_go_with_their_convolution():
    file = [
        Node("a", "Conv", ["x"], ["c"]),
        Node("b", "BatchNormalization", ["c"], ["n"]),
        Node("c", "Relu", ["n"], ["r"]),
        Node("d", "Identity", ["r"], ["y"]),
    ]
    (found,) = origins(file, [Kernel("fused a", "FusedConv", ["x"], ["r"])])
    assert found == ["a", "b", "c", "d"]


def test_names_that_the_runtime_added_to_are_known():
    file = [
        Node("a", "Conv", ["x"], ["c"]),
        Node("b", "Conv", ["c"], ["d"]),
        Node("p", "AveragePool", ["d"], ["y"]),
    ]
    kernels = [
        Kernel("Transpose", "Transpose", ["x"], ["t"]),
        Kernel("a_token_12", "QLinearConv", ["t"], ["a"]),  # a value named as the operator
        Kernel("b_token_15", "QLinearConv", ["a"], ["b"]),
        Kernel("y_pre_q_nchwc", "AveragePool", ["b"], ["reorder_token_10"]),
    ]
    assert origins(file, kernels) == [["a"], ["a"], ["b"], ["p"]]


def test_an_operator_of_constants_is_nobodys():
    file = [Node("a", "Shape", ["w"], ["s"]), Node("b", "Relu", ["x"], ["y"])]
    assert origins(file, [Kernel("b", "Relu", ["x"], ["y"])]) == [["b"]]


def test_a_kernel_without_any_origin_stands_alone():
    file = [Node("b", "Relu", ["x"], ["y"])]
    assert origins(file, [Kernel("z", "Cast", ["q"], ["p"])]) == [[]]


def test_what_a_quantizer_put_in_belongs_to_the_module_beside_it():
    file = [
        Node("w", "DequantizeLinear", ["stem.0.weight_quantized"], ["wd"]),
        Node("q0", "QuantizeLinear", ["x"], ["xq"]),
        Node("d0", "DequantizeLinear", ["xq"], ["xd"]),
        Node("c", "Conv", ["xd", "wd"], ["y"]),
        Node("q1", "QuantizeLinear", ["y"], ["yq"]),
        Node("r_quant", "QLinearRelu", ["yq"], ["z"]),
    ]
    assert homes(file, {"c": "stem.0", "r": "act"}) == {
        "w": "stem.0", "q0": "stem.0", "d0": "stem.0", "c": "stem.0", "q1": "stem.0",
        "r_quant": "act",
    }  # fmt: skip


class Net(nn.Module):
    """A chain, a gate by functions, a sum: what modules and the root itself compute."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.mixer = nn.Conv2d(16, 16, 9, padding=4, groups=16)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.norm(self.mixer(x)) * torch.sigmoid(x)
        return self.head(x.mean((2, 3)))


def test_counts_of_layers_add_up():
    counts = count(Net(), (3, 16, 16))
    rows = counted(counts)["layers"]
    whole = rows.pop("")
    assert set(rows) == {"stem.0", "mixer", "norm", "head"}
    for key in ("params", "macs", "activations"):
        assert sum(row[key] for row in rows.values()) == whole[key] == getattr(counts, key)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    module = Net().eval()
    return module, path, export(module, (3, 16, 16), path)


def test_the_exported_file_says_nothing_of_modules_but_the_export_does(net):
    _, path, exported = net
    assert set(exported.modules) == {node.name for node in nodes(path)}
    assert {"stem.0", "stem.1", "mixer", "norm", "head", ""} == set(exported.modules.values())
    assert b"stem.1" not in path.read_bytes()


def test_times_and_counts_add_up_and_each_layer_has_its_part(net, cpu, lease):
    module, path, exported = net
    profile = profiled(path, cpu, lease, Workload())
    assert isinstance(profile, Profile) and profile.calls >= 4
    counts = count(module, (3, 16, 16))
    found = timed(counts, path, exported.modules, profile, 0.5)
    rows, how = found["layers"], found["by_layer"]
    whole = rows.pop("")
    assert {"stem.0", "mixer", "head"} <= set(rows) and RUNTIME not in rows
    assert rows["stem.0"]["fused"] == ["stem.1"] and "norm" in rows["mixer"]["fused"]
    assert rows[ITSELF]["kernels"] > 0 and "norm" not in rows
    for key in ("params", "macs", "activations"):
        assert sum(row[key] for row in rows.values()) == whole[key]
    assert sum(r["latency_ms"] for r in rows.values()) == pytest.approx(0.5, rel=TOLERANCE)
    assert sum(r["share"] for r in rows.values()) == pytest.approx(1, rel=TOLERANCE)
    assert all(r["latency_ms"] >= 0 for r in rows.values())
    assert how["ratio"] == pytest.approx(profile.microseconds / 500)


def test_the_profilers_own_time_is_taken_off_each_kernel_before_scaling(net):
    module, path, exported = net
    kernels = tuple(
        Kernel(n.name, n.op, n.inputs, n.outputs, 82.0 if n.op == "Conv" else 12.0)
        for n in nodes(path)
    )
    count_ = len(kernels)
    profile = Profile(kernels, 1, 1000.0, 0.0)
    true = profile.microseconds - 10 * count_
    found = timed(count(module, (3, 16, 16)), path, exported.modules, profile, true / 1e3)
    assert found["by_layer"]["overhead_us"] == pytest.approx(10)
    assert found["layers"]["stem.0"]["latency_ms"] == pytest.approx(0.072)
    # where the sum is too short there is no overhead to take off
    slow = timed(count(module, (3, 16, 16)), path, exported.modules, profile, 5.0)["by_layer"]
    assert slow["overhead_us"] == 0 and slow["scale"] > 1 and slow["converged"]


def test_a_profile_beside_other_programs_says_that_it_is_rough(net):
    module, path, exported = net
    kernels = tuple(Kernel(n.name, n.op, n.inputs, n.outputs, 40.0) for n in nodes(path))
    profile = Profile(kernels, 1, 2000.0, 0.0)
    counts = count(module, (3, 16, 16))
    for latency, settled in ((1.0, False), (1.9, True)):
        how = timed(counts, path, exported.modules, profile, latency)["by_layer"]
        assert how["converged"] == settled


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_the_other_runtimes_break_down_alike(tmp_path, cpu, lease, runtime):
    module, device = Net().eval(), cpu.under(runtime)
    written = forms.write(module, (3, 16, 16), tmp_path / "net", device)
    profile = profiled(written.path, device, lease, Workload())
    assert isinstance(profile, Profile), profile
    counts = count(module, (3, 16, 16))
    rows = timed(counts, written.path, written.modules, profile, 0.5)["layers"]
    whole = rows.pop("")
    assert {"stem.0", "mixer", "head", ITSELF} <= set(rows)
    for key in ("params", "macs", "activations"):
        assert sum(row[key] for row in rows.values()) == whole[key]
    assert sum(r["latency_ms"] for r in rows.values()) == pytest.approx(0.5, rel=TOLERANCE)
    assert all(rows[name]["latency_ms"] > 0 for name in ("stem.0", "mixer", "head"))
    if runtime == "openvino":  # it fuses, and its clock counts whole microseconds
        assert "norm" in rows["mixer"]["fused"] and profile.resolution_us == 1
    else:  # operator by operator: nothing is fused, and hardly any time is nobody's
        assert {"stem.1", "norm"} <= set(rows) and not any(r["fused"] for r in rows.values())
        assert rows[RUNTIME]["share"] < 0.05 and 0 < profile.stamp_us < 20


def test_what_cannot_be_split_says_so(tmp_path, cpu, lease):
    device = cpu.under("torch:compiled")
    written = forms.write(Net().eval(), (3, 16, 16), tmp_path / "net", device)
    why = profiled(written.path, device, lease, Workload())
    assert isinstance(why, str) and why.startswith("torch compiles operators of several layers")


def test_a_stamp_that_is_known_is_taken_off_however_long_the_sum():
    kernels = tuple(Kernel(microseconds=us) for us in (3.0, 4.0, 80.0))
    assert Profile(kernels, 1, 90.0, 0.0, stamp_us=0.5).overhead(40.0) == 0.5
    assert Profile(kernels, 1, 90.0, 0.0).overhead(40.0) == pytest.approx(2.7)


def test_a_kernel_goes_where_its_runtime_says():
    kernels = [
        Kernel("c0", "Convolution", ["x"], ["c0"], 1.0, ("n0", "n1")),
        Kernel("anew", "Subgraph", ["c0"], ["anew"], 1.0),
        Kernel("c1", "Convolution", ["anew"], ["y"], 1.0, ("n2", "n3")),
    ]
    assert origins(FILE, kernels)[:1] == [["n0", "n1"]]
    assert origins(FILE, kernels)[1] == origins(FILE, kernels)[2]


@pytest.mark.slow
def test_a_heavy_layer_among_short_ones_has_the_time_that_it_has_alone(tmp_path, cpu, lease):
    def chain(heavy):
        large = [nn.Conv2d(32, 32, 15, padding=7, groups=32)] if heavy else []
        short = [layer for _ in range(30) for layer in (nn.Conv2d(32, 32, 1), nn.Tanh())]
        return nn.Sequential(
            nn.Conv2d(3, 32, 1), *large, nn.Hardtanh(), nn.AvgPool2d(16), *short, nn.Flatten()
        ).eval()

    module = chain(True)
    written = forms.write(module, (3, 16, 16), tmp_path / "all", cpu)
    other = forms.write(chain(False), (3, 16, 16), tmp_path / "without", cpu)
    both = measure([written.path, other.path], cpu, lease, processes=3, basis="test")
    whole, without = (m.value for m in both)
    profile = profiled(written.path, cpu, lease, Workload())
    counts = count(module, (3, 16, 16))
    rows = timed(counts, written.path, written.modules, profile, whole)["layers"]
    assert rows["1"]["latency_ms"] == pytest.approx(whole - without, rel=0.3)
