"""Groups against networks whose dependencies are known, and removal against masking in float64."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from transforms.sparsify.conftest import examples, residual

from nas.catalog import load_space
from nas.core.task import TaskSpec
from nas.networks.mixers.dilated import DilatedMixer
from nas.networks.mixers.partial import Partial
from nas.networks.mixers.peripheral import PeripheralMixer, PositionalTable
from nas.transforms.running import randomised
from nas.transforms.sparsify import groups as grouping
from nas.transforms.sparsify.groups import (
    FIXED,
    INEXACT,
    PERMUTED,
    Group,
    Trace,
    spread,
    tried,
)  # fmt: skip


class Split(nn.Module):
    """Half of the channels go one way: Torch-Pruning follows, but they may not trade places."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 16, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.wide(x).split(8, 1)
        both = torch.cat([self.left(left).relu(), self.right(right).relu()], 1)
        return self.head(both.mean((2, 3)))


class Heads(nn.Module):
    """Attention whose projections are reshaped into heads of 8 channels."""

    def __init__(self, free: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 2, 2)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)
        self.head = nn.Linear(16, 2)
        self.free = free

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        sizes = (2, -1) if self.free else (2, 8)
        q, k, v = (p(x).unflatten(2, sizes).transpose(1, 2) for p in (self.q, self.k, self.v))
        y = torch.softmax(q @ k.transpose(2, 3) / 8**0.5, -1) @ v
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return self.head(x.mean(1))


def found(module: nn.Module, late: bool = False) -> tuple[dict[str, Group], dict[str, str]]:
    groups, untraced = Trace(module, examples(2)).groups()
    kept, failed = tried(module, groups, examples(2), late)
    return {g.root: g for g in kept}, dict([*untraced, *failed])


def every_layer_is_told_of(module: nn.Module, groups: dict[str, Group], told: dict[str, str]):
    layers = {p for p, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    return layers == set(told) | {path for g in groups.values() for path in g.layers}


def removed(module: nn.Module, groups: dict[str, Group]) -> tuple[Tensor, Tensor]:
    """The outputs of a network with every other channel zeroed, and with them removed."""
    zeroed, smaller = randomised(module).double(), randomised(module).double()
    alive = {root: torch.arange(g.count) % 2 == 0 for root, g in groups.items()}
    tensors = {**dict(zeroed.named_parameters()), **dict(zeroed.named_buffers())}
    with torch.no_grad():
        for root, group in groups.items():
            for member in group.members:
                tensors[member.name].mul_(spread(alive[root], member, tensors[member.name]))
    Trace(smaller, examples(2).double()).remove(alive)
    with torch.no_grad():
        x = examples(8).double()
        return zeroed(x), smaller(x)


def test_layers_around_a_residual_share_channels() -> None:
    module = residual()
    groups, told = found(module)
    assert set(groups) <= {"stem", "inner", "outer"} and told.keys() == {"head"}
    assert "outputs" in told["head"]
    (shared,) = (g for g in groups.values() if g.count == 16)
    names = {(m.name, m.axis) for m in shared.members}
    assert {("stem.weight", 0), ("outer.weight", 0), ("inner.weight", 1), ("head.weight", 1),
            ("norm.weight", 0), ("norm.running_var", 0), ("outer.bias", 0)} <= names  # fmt: skip


def test_removing_is_masking() -> None:
    module = residual()
    groups, _ = found(module, late=True)
    assert len(groups) == 2
    zeroed, smaller = removed(module, groups)
    assert (zeroed - smaller).abs().max() <= 1e-12 * zeroed.abs().max()


def test_channels_that_are_flattened_take_their_columns_along() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    groups, _ = found(module, late=True)
    columns = next(m for m in groups["0"].members if m.name == "3.weight")
    assert columns.channels.bincount().tolist() == [36] * 8
    zeroed, smaller = removed(module, groups)
    assert (zeroed - smaller).abs().max() <= 1e-12 * zeroed.abs().max()


def test_what_a_split_divides_stays_and_is_told() -> None:
    module = Split()
    groups, told = found(module)
    assert set(groups) == {"left", "right"} and told["wide"] == PERMUTED
    assert every_layer_is_told_of(module, groups, told)


@pytest.mark.parametrize("free", [True, False])
def test_heads_stay_and_what_goes_around_them_does_not(free: bool) -> None:
    """`free` heads run at any width, but mean another network: only trying finds that out."""
    module = Heads(free)
    groups, told = found(module)
    assert all(told[name] in (PERMUTED, FIXED) for name in ("q", "k", "v") if name in told)
    assert told.keys() & {"q", "k", "v"} and not groups.keys() & {"q", "k", "v"}
    assert every_layer_is_told_of(module, groups, told)


def test_a_norm_over_channels_may_lose_them_only_before_training() -> None:
    module = residual(norm=lambda c: nn.GroupNorm(1, c))
    early, _ = found(module)
    late, told = found(module, late=True)
    assert len(early) == 2 and not late
    assert list(told.values()).count(INEXACT) == 3


def test_grouped_convolutions_are_left_and_told() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 8, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    groups, told = found(module)
    assert set(groups) == {"2"} and every_layer_is_told_of(module, groups, told)


class PartlyMixed(nn.Module):
    """A quarter of the channels is convolved, by several branches that all read the split."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.mixer = Partial(16, 4, DilatedMixer(4, 13))
        self.expand, self.project = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.project(torch.relu(self.expand(self.mixer(x))))
        return self.head(x.mean((2, 3)))


def test_where_the_tracer_fails_the_rest_is_pruned_all_the_same() -> None:
    module = PartlyMixed()
    groups, told = found(module)
    assert set(groups) == {"expand"} and every_layer_is_told_of(module, groups, told)
    assert "cannot follow" in told["first"] and "cannot follow" in told["project"]
    zeroed, smaller = removed(module, groups)
    assert (zeroed - smaller).abs().max() <= 1e-12 * zeroed.abs().max()


class Peripheral(nn.Module):
    """Blocks that convolve six of sixteen channels, with one table of offsets for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.table = PositionalTable(6, 9)
        mixers = [PeripheralMixer(6, 9, 2, self.table) for _ in range(3)]
        self.mixers = nn.ModuleList(Partial(16, 6, mixer) for mixer in mixers)
        self.expand = nn.ModuleList(nn.Conv2d(16, 32, 1) for _ in mixers)
        self.project = nn.ModuleList(nn.Conv2d(32, 16, 1) for _ in mixers)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for mixer, expand, project in zip(self.mixers, self.expand, self.project, strict=True):
            x = x + project(torch.relu(expand(mixer(x))))
        return self.head(x.mean((2, 3)))


@pytest.mark.timeout(60)
def test_offsets_of_taps_are_no_positions_of_tokens() -> None:
    """Taken for those, channels were followed through concatenations to ever other places."""
    module = Peripheral()
    groups, told = found(module)
    assert {"expand.0", "expand.1", "expand.2"} <= set(groups)
    assert every_layer_is_told_of(module, groups, told)
    zeroed, smaller = removed(module, groups)
    assert (zeroed - smaller).abs().max() <= 1e-12 * zeroed.abs().max()


def test_channels_that_come_to_ever_new_places_are_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouping, "_FAR", 0)
    groups, told = found(residual())
    assert not groups and all("ever new places" in why for why in told.values())


def test_the_module_is_left_as_it_was() -> None:
    module = residual().train()
    module.inner.weight.requires_grad_(False)
    module.norm.eval()
    before = deepcopy(module.state_dict())
    found(module, late=True)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert module.training and not module.norm.training
    frozen = [n for n, p in module.named_parameters() if not p.requires_grad]
    assert frozen == ["inner.weight"]
    Trace(module, examples(2)).remove({"inner": torch.arange(32) < 16})
    assert module.inner.weight.shape[0] == 16 and not module.inner.weight.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("preset, groups", [("convnext_a", 16), ("inceptionnext_a", 13)])
def test_on_networks_of_ours(preset: str, groups: int) -> None:
    task = TaskSpec("t", (3, 32, 32), 10)
    space = load_space("largekernel").at(task)
    torch.manual_seed(0)
    module = space.build(space.preset(preset).choices, task)
    x = torch.randn(2, 3, 32, 32)
    listed, untraced = Trace(module, x).groups()
    kept, failed = tried(module, listed, x, late=False)
    told = dict([*untraced, *failed])
    assert len(kept) == groups
    assert every_layer_is_told_of(module, {g.root: g for g in kept}, told)
    if preset.startswith("inception"):  # its mixer takes the first channels apart
        assert told["stem.conv"] == PERMUTED
