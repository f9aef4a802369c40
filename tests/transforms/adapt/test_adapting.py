"""Every method on every kind of network: frozen, merged exactly where it says, else kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_networks import NETWORKS, SHAPE, adapt, far, inputs, pretrained
from torch import nn

from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.networks.mixers.patterned import Patterned
from nas.networks.parts.sparse import sparsify
from nas.transforms.adapt.adapted import Adapted, Part, parts
from nas.transforms.adapt.adapting import adapting
from nas.transforms.adapt.bottleneck import Form
from nas.transforms.adapt.insertion import METHODS
from nas.transforms.adapt.plan import Plan
from nas.transforms.stages import Given

MERGED = ("head", "lora", "ssf", "difffit", "linear", "sara", "pruning")
BEGIN_ELSEWHERE = ("ssf", "prompt", "pruning")  # and all else where the network is


def parts_of(method: str) -> tuple[int, ...]:
    return (3, 2) if method == "polyhistor" else ()


@pytest.mark.parametrize("method", METHODS)
def test_the_deployed_form_answers_as_the_adapted_one_does(network: nn.Module, method: str) -> None:
    tried = adapt(network, Plan(method), parts_of(method))
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    moved = far(tried.adapted(inputs()), tried.before(inputs()))
    assert moved > 1e-3 or method == "head"  # adapters do something


@pytest.mark.parametrize("method", METHODS)
def test_what_merges_leaves_nothing_behind(network: nn.Module, method: str) -> None:
    tried = adapt(network, Plan(method), parts_of(method))
    deployed, report = tried.deploy()
    left = list(parts(deployed))
    assert bool(left) == (method not in MERGED) or (method == "prompt" and not left)
    weights = {name.removeprefix("network.") for name, _ in deployed.named_parameters()}
    known = {name for name, _ in tried.before.named_parameters()}
    if method in MERGED:  # the very tensors of the network, but for biases that it did not have
        assert {w for w in weights - known if not w.endswith(".bias")} == set()
    else:
        assert report.skipped


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "mask"])
@pytest.mark.parametrize("method", METHODS)
def test_weights_that_a_parametrization_makes_stay_what_it_makes(method: str, kind: str) -> None:
    network = pretrained("convolutions")
    norms = nn.utils.parametrizations
    for layer in (network[1].conv1, network[2].conv2, network[3].norm2):
        if kind == "mask":
            sparsify(layer, 0.5)
        elif isinstance(layer, nn.Conv2d):
            getattr(norms, kind)(layer)
    tried = adapt(network.eval(), Plan(method), parts_of(method))
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    told = dict(tried.prepared.skipped)
    if kind != "mask":
        said = "its weight is made of other tensors, as by weight_norm"
        assert told["1.conv1"] == told["2.conv2"] == said


@pytest.mark.parametrize("method", [m for m in METHODS if m not in BEGIN_ELSEWHERE])
def test_an_untrained_adapter_changes_nothing(network: nn.Module, method: str) -> None:
    tried = adapt(network, Plan(method), parts_of(method), move=0.0)
    assert far(tried.adapted(inputs()), tried.before(inputs())) < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_only_adapters_and_the_head_get_gradients(network: nn.Module, method: str) -> None:
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    tried = adapt(network, Plan(method), parts_of(method))
    module = tried.adapted.train()
    with torch.enable_grad():
        module(inputs()).square().sum().backward()
    touched = {n for n, p in module.named_parameters() if p.grad is not None}
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert touched == trained
    head = tried.prepared.touched[-1].partition(":")[0]
    own = {f"network.{n}" for n in before} & trained
    if method not in ("difffit", "pruning"):  # those two train biases of the network's own
        assert own == {f"network.{head}.weight", f"network.{head}.bias"}


def test_nothing_of_the_network_moves_while_adapters_are_trained() -> None:
    tried = adapt(pretrained("convolutions"), Plan("lora"), move=0.0)
    module = tried.adapted.train()
    assert not any(m.training for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    held = {n: b.clone() for n, b in module.named_buffers()}
    with torch.enable_grad():
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
        module(inputs()).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(held[n], b) for n, b in module.named_buffers())
    assert not torch.allclose(module.eval()(inputs()), tried.before(inputs()))


def test_training_mode_is_the_adapters_and_the_heads() -> None:
    tried = adapt(pretrained("fused"), Plan("linear"))
    module = tried.adapted.train()
    modes = {type(m) for m in module.modules() if m.training}
    assert nn.Dropout in modes and nn.LayerNorm not in modes
    assert all(m.training for m in parts(module))
    assert not any(m.training for m in module.eval().modules())


@pytest.mark.parametrize("method", ["lora", "ssf", "difffit", "linear", "bottleneck", "snnk"])
def test_sections_say_where_adapters_go_and_all_else_is_named(
    network: nn.Module, method: str
) -> None:
    every = adapt(network, Plan(method)).prepared
    half = adapt(network_like(network), Plan(method, sections=(True, True, False, False))).prepared
    assert 1 < len(half.touched) < len(every.touched)
    assert {f"section {i} is left frozen" for i in (2, 3)} <= {why for _, why in half.skipped}
    named = [line.partition(":")[0] for line in half.touched] + [p for p, _ in half.skipped]
    adapted = [line.partition(":")[0].removesuffix(".out_proj") for line in every.touched]
    assert set(adapted) <= set(named)


def network_like(network: nn.Module) -> nn.Module:
    """The network as it was, if it has been adapted in place."""
    names = {"Sequential": "convolutions", "Tokens": "fused", "LargeKernels": "large kernels"}
    made = NETWORKS[names[type(network).__name__]]()
    if any("inner" in name for name, _ in network.named_modules()):
        made = NETWORKS["torch"]()
    return made.double().eval()


@pytest.mark.parametrize(
    ("method", "form"),
    [*((m, "serial") for m in ("lora", "ssf", "difffit", "sara", "bottleneck")),
     ("bottleneck", "parallel")],
)  # fmt: skip
def test_dilated_filters_are_layers_like_others(method: str, form: Form) -> None:
    network = pretrained("convolutions")
    for path in ("1.conv2", "2.conv1", "4"):  # dense, of stride 2, depthwise
        conv = network.get_submodule(path)
        half = len(conv.weight) // 2
        network.set_submodule(path, Patterned(conv, [((1, 1), half), ((2, 1), half)]))
    tried = adapt(network, Plan(method, form=form))
    if method != "bottleneck":
        changed = {line.partition(":")[0] for line in tried.prepared.touched}
        reasons = dict(tried.prepared.skipped)
        assert {"1.conv2", "2.conv1", "4"} <= changed | reasons.keys()
        assert ("1.conv2" in changed) == (method != "difffit")  # it has no bias
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    assert far(tried.adapted(inputs()), tried.before(inputs())) > 1e-3


def test_sites_are_what_a_layer_mixes() -> None:
    channels = adapt(pretrained("fused"), Plan("lora", mixing="none")).prepared
    assert {line.partition(":")[0].rpartition(".")[2] for line in channels.touched} == {
        "0", "2", "head"
    }  # fmt: skip
    mixing = adapt(pretrained("fused"), Plan("lora", channels=False)).prepared
    assert {line.partition(":")[0].rpartition(".")[2] for line in mixing.touched} == {
        "patches", "qkv", "proj", "head"
    }  # fmt: skip
    queries = adapt(pretrained("fused"), Plan("lora", mixing="queries", channels=False)).prepared
    assert sum("on query and value" in line for line in queries.touched) == 3
    assert ("blocks.0.attn.proj", "only queries and values are adapted") in queries.skipped


def test_the_head_is_the_last_layer_before_the_output(network: nn.Module) -> None:
    report = adapt(network, Plan("head")).prepared
    assert report.touched in (("7: the head: trained",), ("head: the head: trained",))


def test_counts_need_no_numbers() -> None:
    task = TaskSpec("t", SHAPE, 5)
    for method in METHODS:
        with torch.device("meta"):
            module = NETWORKS["fused"]()
            given = Given(replace(task, parts=parts_of(method)), lambda n: torch.zeros(n, *SHAPE))
            transform = adapting(Plan(method))
            module, _ = transform.prepare(module, given)
            deployed, _ = transform.finish(module, given)
        assert deployed(torch.empty(2, *SHAPE, device="meta")).shape == (2, 5), method


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(NasError, match="no adapter named 'lorra'"):
        adapting(Plan("lorra"))


def test_a_network_without_a_head_is_refused() -> None:
    given = Given(TaskSpec("t", SHAPE, 5), lambda n: torch.zeros(n, *SHAPE))
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.GRU(5, 5))
    with pytest.raises(NasError, match="returns tuple, not a tensor"):
        adapting(Plan("lora")).prepare(network, given)


def test_a_layer_used_twice_is_adapted_once_or_left() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(768, 768)
            self.again = self.one
            self.head = nn.Linear(768, 5)

        def forward(self, x):
            x = x.flatten(1)
            x = x + self.one(x)
            return self.head(x + self.again(x))

    tried = adapt(Twice().double(), Plan("lora"))
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    left = adapt(Twice().double(), Plan("bottleneck")).prepared
    assert ("one", "used in more than one place") in left.skipped


def test_adapted_networks_copy_and_come_back_from_their_state(network: nn.Module) -> None:
    from copy import deepcopy

    tried = adapt(network, Plan("ssf"))
    twin = deepcopy(tried.adapted)
    assert torch.equal(twin(inputs()), tried.adapted(inputs()))
    tried.deploy()  # merging a copy leaves this one as it is
    assert isinstance(tried.adapted, Adapted)
    assert any(isinstance(m, Part) for m in tried.adapted.modules())
    other = adapt(network_like(twin.network), Plan("ssf"))
    other.adapted.load_state_dict(twin.state_dict())
    assert torch.equal(other.adapted(inputs()), twin(inputs()))
