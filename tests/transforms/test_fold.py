"""Folding is exact in float64, for every block, mixer, norm and gate, at every map size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks_of_users import ResNet18
from peculiar_layers import Activated, Standardised
from torch import Tensor, nn

from nas import TaskSpec
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.named import NAMES
from nas.networks.parts.residual import DropPath
from nas.networks.plan import Network, Stage
from nas.networks.skeleton import LargeKernelNet
from nas.transforms.fold import ALONE, fold
from search_spaces.largekernel import space

Randomised = Callable[[nn.Module], nn.Module]
TASK = TaskSpec("digits", (3, 32, 32), 10)


def difference(module: nn.Module, folded: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest difference of the outputs over their largest deviation between two examples."""
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        wanted, got = module(x), folded(x)
    spread = (wanted[0] - wanted[1]).abs().max()
    assert spread > 1e-6 * wanted.abs().max(), "the output does not depend on the input"
    return float((wanted - got).abs().max() / spread)


def network(block: str, mixer: str, norm: str, gate: str, kernels: tuple[int, ...]) -> Network:
    some = 1 / 8 if mixer == "inception" else 1.0
    stages = tuple(
        Stage(
            depth=3 if i == 1 else 1, width=16 + 8 * i, mixer=mixer, kernel=kernel, fraction=some,
            period=2 if i == 1 else 1, expansion=2, norm=norm, gate=gate, positional=i != 2,
            core=1 + i % 3, small=3 + 2 * (i % 2), widening=1.5 if i == 3 else 1.0,
        )
        for i, kernel in enumerate(kernels)
    )  # fmt: skip
    return Network(3, 5, stages, block=block, stem_norm=norm, downsample_norm=norm, head_norm=norm,
                   drop_path=0.2, stride=1)  # fmt: skip


@pytest.mark.parametrize("mixer", NAMES)
@pytest.mark.parametrize(
    ("block", "norm"),
    [
        ("convnext", "layer"),
        ("convnext", "batch"),
        ("unireplknet", "batch"),
        ("replknet", "batch"),
    ],
)
@pytest.mark.parametrize("gate", ["none", "se", "se+grn"])
def test_every_block_mixer_norm_and_gate(
    mixer: str, block: str, norm: str, gate: str, randomised: Randomised
) -> None:
    kernels = (13, 9, 17, 13) if mixer == "dilated" else (13, 31, 9, 51)
    shape = (3, 11, 16)
    module = randomised(LargeKernelNet(network(block, mixer, norm, gate, kernels)))
    folded, report = fold(module, shape)
    assert difference(module, folded, shape) < 1e-9
    unreported = [
        path
        for path, layer in folded.named_modules()
        if isinstance(layer, nn.BatchNorm2d) and path not in dict(report.skipped)
    ]
    assert not unreported
    assert not any(isinstance(layer, Depthwise | DropPath) for layer in folded.modules())


@pytest.mark.parametrize("fraction", [0.25, 0.375])
@pytest.mark.parametrize("block", ["convnext", "unireplknet", "replknet"])
def test_a_share_of_the_channels(fraction: float, block: str, randomised: Randomised) -> None:
    for mixer in ("depthwise", "dilated", "stripe", "peripheral", "smallkernel"):
        plan = network(block, mixer, "batch", "se", (13, 9, 7, 7))
        stages = tuple(replace(stage, fraction=fraction) for stage in plan.stages)
        module = randomised(LargeKernelNet(replace(plan, stages=stages)))
        folded, report = fold(module, (3, 16, 16))
        assert difference(module, folded, (3, 16, 16)) < 1e-9
        assert any("no weight for every channel" in why for _, why in report.skipped)


@pytest.mark.parametrize("stem", ["patch", "overlapping", "deep"])
@pytest.mark.parametrize("downsample", ["patch", "overlapping", "depthwise"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_stem_downsample_and_stride(
    stem: str, downsample: str, stride: int, randomised: Randomised
) -> None:
    for norm, head in (("layer", "mlp"), ("batch", "linear")):
        plan = network("convnext", "depthwise", norm, "none", (31, 13, 7, 5))
        plan = replace(plan, stem=stem, downsample=downsample, stride=stride, head=head)
        module = randomised(LargeKernelNet(plan))
        shape = (3, 35, 41)
        folded, _ = fold(module, shape)
        assert difference(module, folded, shape) < 1e-9


@pytest.mark.slow
def test_samples_of_the_space(randomised: Randomised) -> None:
    at = space.at(TASK)
    rng = np.random.default_rng(0)
    for _ in range(12):
        architecture = at.sample(rng)
        module = randomised(space.build(architecture.choices, TASK))
        folded, _ = fold(module, TASK.input)
        assert difference(module, folded, TASK.input) < 1e-9, architecture.choices


@pytest.mark.parametrize("name", ["inceptionnext_a", "unireplknet_a", "convnextv2_a"])
def test_presets_at_a_small_size(name: str, randomised: Randomised) -> None:
    module = randomised(space.build(space.at(TASK).preset(name).choices, TASK))
    folded, _ = fold(module, TASK.input)
    assert difference(module, folded, TASK.input) < 1e-9


def test_dead_taps_are_cut_and_stripes_joined_where_that_is_less_work(
    randomised: Randomised,
) -> None:
    plan = network("convnext", "stripe", "layer", "none", (51, 49, 47, 13))
    folded, report = fold(randomised(LargeKernelNet(plan)), (3, 32, 32))
    kernels = [
        tuple(m.kernel_size)
        for m in folded.modules()
        if isinstance(m, nn.Conv2d) and m.groups > 1 and m.kernel_size != (3, 3)
    ]
    # maps of 32, 16, 8, 4: two stripes until a dense kernel has fewer taps, 15 * 15 > 2 * 75
    assert kernels == [(51, 5), (5, 51), *[(31, 5), (5, 31)] * 2, (15, 5), (5, 15), (7, 7)]
    assert any("cut to 31x5 on a 16x16 map" in line for line in report.touched)


def test_masks_become_real_zeros(randomised: Randomised) -> None:
    plan = replace(network("convnext", "peripheral", "layer", "none", (13, 9, 7, 5)), density=0.6)
    module = randomised(LargeKernelNet(plan))
    folded, _ = fold(module, (3, 32, 32))
    assert difference(module, folded, (3, 32, 32)) < 1e-9
    assert not any("parametrizations" in name for name, _ in folded.named_parameters())
    weight = folded.stages[0].blocks[0].expand.weight
    assert int((weight != 0).sum()) == round(0.6 * weight.numel())


def test_the_published_form_of_replknet_merges_branches_only(randomised: Randomised) -> None:
    plan = replace(network("replknet", "smallkernel", "batch", "none", (13, 9, 7, 7)), stem="deep")
    module = randomised(LargeKernelNet(plan))
    published, _ = fold(module, (3, 32, 32), published=True)
    folded, _ = fold(module, (3, 32, 32))
    assert difference(module, published, (3, 32, 32)) < 1e-9
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (published, folded)]
    assert norms[0] > 30
    assert norms[1] == 0


def test_the_original_is_untouched() -> None:
    module = LargeKernelNet(network("unireplknet", "dilated", "batch", "se+grn", (13, 9, 7, 5)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fold(module, (3, 32, 32))
    assert module.training
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert before.keys() == module.state_dict().keys()


def test_folding_needs_no_numbers() -> None:
    with torch.device("meta"):
        plan = network("unireplknet", "peripheral", "batch", "se+grn", (51, 9, 7, 5))
        module = LargeKernelNet(replace(plan, density=0.6))
    folded, _ = fold(module, (3, 32, 32))
    assert folded(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 5)


def chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def test_any_sequence_of_plain_layers(randomised: Randomised) -> None:
    module = randomised(
        chain(
            norm0=nn.BatchNorm2d(3),
            conv1=nn.Conv2d(3, 8, 3, padding=1),
            norm1=nn.BatchNorm2d(8),
            inner=chain(norm=nn.BatchNorm2d(8, affine=False), conv=nn.Conv2d(8, 8, 2, stride=2)),
            relu=nn.ReLU(),
            drop=nn.Dropout(0.5),
            norm2=nn.BatchNorm2d(8),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(8, 4),
            norm3=nn.BatchNorm1d(4),
        )
    )
    folded, report = fold(module, (3, 8, 8))
    assert difference(module, folded, (3, 8, 8)) < 1e-9
    left = [p for p, m in folded.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert left == ["norm0"]  # before a padded convolution, which would see zeros for its shift
    assert dict(report.skipped).keys() == {"norm0"}


def test_what_is_used_twice_or_has_no_statistics_is_left(randomised: Randomised) -> None:
    conv = nn.Conv2d(3, 3, 1)
    module = randomised(
        chain(
            one=chain(conv=conv, norm=nn.BatchNorm2d(3)),
            two=chain(conv=conv, relu=nn.ReLU()),
            three=chain(conv=nn.Conv2d(3, 3, 1), norm=nn.BatchNorm2d(3)),
        )
    )
    module.three.norm = nn.BatchNorm2d(3, track_running_stats=False).double()
    folded, report = fold(module, (3, 8, 8))
    assert difference(module, folded, (3, 8, 8)) < 1e-9
    assert dict(report.skipped) == {
        "one.norm": "used in more than one place",
        "three.norm": "keeps no running statistics",
    }


def test_a_deployed_network_traces_to_one_graph_for_any_batch(randomised: Randomised) -> None:
    module = randomised(
        LargeKernelNet(network("unireplknet", "stripe", "batch", "se+grn", (51, 9, 7, 7)))
    )
    folded, _ = fold(module, (3, 32, 32))
    example: Tensor = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(folded, (example,), dynamic_shapes=(batch,))
    for size in (1, 5):
        x = torch.randn(size, 3, 32, 32, dtype=torch.float64)
        assert torch.allclose(program.module()(x), module(x), rtol=1e-9)


def test_the_layout_of_training_does_not_reach_the_deployed_form():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.to(memory_format=torch.channels_last)
    deployed, _ = fold(module, (3, 8, 8))
    assert deployed[0].weight.is_contiguous()
    assert not module[0].weight.is_contiguous()


class Backward(nn.Sequential):
    """A sequence that is called in another order."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


class Peeking(nn.Module):
    """A network that also takes what is inside a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + self.f[0](x)


def hooked() -> nn.Module:
    chain = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    chain[0].register_forward_hook(lambda layer, given, found: found.relu())
    return chain


UNUSUAL = {
    "its own norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3), Activated(4)), "no plain batch norm"),
    "its own convolution": (
        lambda: nn.Sequential(Standardised(4, 4, 3), nn.BatchNorm2d(4)), "of its own kind"),
    "its own order": (lambda: Backward(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), None),
    "looked into": (Peeking, "with them folded it answers otherwise"),
    "hooked": (hooked, "of its own kind"),
    "another axis": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(4)), "along another axis"),
    "columns as many as channels": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Linear(4, 5)),
        None),
    "pixels as many as channels": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 16, 1), nn.ReLU(), nn.BatchNorm2d(16), nn.Flatten(2), nn.Linear(16, 5)),
        None),
    "features as many as channels": (
        lambda: nn.Sequential(nn.Flatten(2), nn.Linear(16, 4), nn.BatchNorm1d(4)), None),
    "length as many as channels": (
        lambda: nn.Sequential(nn.Flatten(1, 2), nn.BatchNorm1d(16), nn.Linear(4, 16),
                              nn.BatchNorm1d(16)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_a_network_of_somebody_else_does_is_not_guessed(name: str) -> None:
    make, why = UNUSUAL[name]
    torch.manual_seed(0)
    network = make().double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    values.uniform_(0.5, 2)
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    folded, report = fold(network, (4, 4, 4))
    torch.testing.assert_close(folded(x), network.eval()(x), rtol=0, atol=1e-12)
    assert why is None or any(why in said for _, said in report.skipped)


def test_a_network_that_wants_its_own_type_is_checked_in_it() -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.f(x.float()) * torch.ones(1, dtype=torch.float32)

    _, report = fold(Typed(), (4, 8, 8))
    assert not report.skipped and len(report.touched) == 1


class Often(nn.Module):
    """Its forward, which cannot be traced, calls one layer as often as the input says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.shape[0])):
            x = self.norm(self.conv(x))
        return x


def test_norms_are_folded_wherever_somebodys_forward_calls_them(randomised: Randomised) -> None:
    module = randomised(ResNet18(5, width=8))
    folded, report = fold(module, (3, 16, 16))
    assert difference(module, folded, (3, 16, 16)) < 1e-9
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert report.skipped == () and len(report.touched) == 20


def test_every_norm_that_stays_is_named(randomised: Randomised) -> None:
    module = randomised(Often())
    folded, report = fold(module, (3, 16, 16))
    assert difference(module, folded, (3, 16, 16)) < 1e-12
    told = dict(report.skipped)
    assert "untraceable" in told[""] and told["norm"] == ALONE


def test_norms_between_other_layers_are_named_too(randomised: Randomised) -> None:
    module = chain(
        group=nn.GroupNorm(1, 3), up=nn.ConvTranspose2d(3, 8, 2, 2), norm=nn.BatchNorm2d(8)
    )
    _, report = fold(randomised(module), (3, 8, 8))
    assert dict(report.skipped) == {"norm": ALONE, "group": "GroupNorm depends on the input"}
