"""Dilating keeps what it says, and the statistical search finds taps that were planted."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.dilated import DilatedMixer
from nas.networks.mixers.partial import Partial
from nas.networks.mixers.patterned import Patterned
from nas.networks.mixers.smallkernel import NormedMixer, SmallKernelMixer
from nas.networks.mixers.stripe import StripeMixer
from nas.networks.repopt import BranchedBlock
from nas.transforms import dilate
from nas.transforms.fold import fold
from nas.transforms.sparsify.groups import randomised
from nas.transforms.stages import Given, Pipeline

TASK = TaskSpec("digits", (3, 12, 12), 10)


def examples(count: int) -> Tensor:
    return torch.randn(count, *TASK.input, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """As people write them: norms beside the convolutions, no Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.conv = nn.Conv2d(32, 32, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.point = nn.Conv2d(32, 32, 1)
        self.grouped = nn.Conv2d(32, 32, 3, 1, 1, groups=4)
        self.even = nn.Conv2d(32, 32, 2, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.norm2(self.conv(x)))
        x = self.even(self.grouped(self.point(x)))
        return self.head(x.mean((2, 3)))


def network() -> Residual:
    torch.manual_seed(0)
    module = Residual()
    for norm in (module.norm, module.norm2):
        nn.init.uniform_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return module.eval()


def test_what_is_dilated_what_is_left_and_why() -> None:
    patterns = [(1, 1), (1, 2), (2, 1), (9, 9)]
    pipeline = Pipeline([dilate.dilating([patterns] * 4)], Given(TASK, examples))
    module, [report] = pipeline.prepare(network())
    assert report.touched == (
        "stem: dilated: 8 filters 1x1, 8 filters 1x2, 8 filters 2x1, 8 filters 9x9",
        "conv: dilated: 8 filters 1x1, 8 filters 1x2, 8 filters 2x1, 8 filters 5x5",
    )
    assert dict(report.skipped) == {
        "grouped": "4 groups of channels", "even": "a 2x2 kernel has no centre",
        "point": "a 1x1 kernel has no taps to set apart",
        "head": "Linear: it has no taps that dilation could set apart",
    }  # fmt: skip
    assert isinstance(module.stem, Patterned) and isinstance(module.point, nn.Conv2d)


def test_sections_that_are_not_dilated_are_not_said_to_be_too_small() -> None:
    sections = [[(1, 1)] * 4] * 2 + [[(1, 1), (1, 2), (2, 1), (2, 2)]] * 2
    pipeline = Pipeline([dilate.dilating(sections)], Given(TASK, examples))
    _, [report] = pipeline.prepare(network())
    assert [line.partition(":")[0] for line in report.touched] == ["conv"]
    assert dict(report.skipped)["stem"] == "section 0 is not dilated"


def test_norms_behind_several_convolutions_are_folded_wherever_they_stand() -> None:
    pipeline = Pipeline([dilate.dilating([[(1, 1), (2, 2)] * 2] * 4)], Given(TASK, examples))
    module, _ = pipeline.prepare(network().double())
    folded, report = fold(module, TASK.input)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    x = examples(4).double()
    torch.testing.assert_close(folded(x), module(x), rtol=0, atol=1e-12)
    assert "norm2: batch norm into the layer before it" in report.touched


@pytest.mark.parametrize(
    "mixer",
    [
        StripeMixer(32, 9), DilatedMixer(32, 9), SmallKernelMixer(32, 9, 3),
        BranchedBlock(32, 32, 1, 1, "none", True), NormedMixer(Depthwise(32, 5, bias=False), 32),
        Partial(64, 32, Depthwise(32, 5)),
    ],
    ids=lambda mixer: type(mixer).__name__,
)  # fmt: skip
def test_branches_that_are_merged_are_left_and_what_is_deployed_whole_is_not(
    mixer: nn.Module,
) -> None:
    """A merge takes the branches' taps for neighbours; it would make another network of these."""
    torch.manual_seed(0)
    width = 64 if isinstance(mixer, Partial) else 32
    inside = nn.Sequential(nn.Conv2d(3, width, 1), mixer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = randomised(inside).double()
    pipeline = Pipeline([dilate.dilating([[(1, 1), (2, 2)] * 2] * 4)], Given(TASK, examples))
    module, [report] = pipeline.prepare(module)
    whole = hasattr(mixer, "mixer")
    assert [line.partition(":")[0] for line in report.touched] == ["1.mixer"] * whole
    assert whole or "its kernel is merged with those beside it" in dict(report.skipped).values()
    folded, _ = fold(module, TASK.input)
    x = examples(4).double()
    torch.testing.assert_close(folded(x), module(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("kind", ["dense", "ours"])
def test_growing_keeps_a_trained_function_and_a_fresh_scale(kind: str, fresh: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, padding=1) if kind == "dense" else Depthwise(16, 5)
    grown = dilate.grow(conv, 3, fresh)
    assert grown.weight.shape[-1] == (7 if kind == "dense" else 13)
    x = torch.randn(4, 16, 24, 24)
    with torch.no_grad():
        before, after = conv.eval()(x), grown.eval()(x)
    if fresh:
        assert float(after.std() / before.std()) == pytest.approx(1.0, abs=0.25)
    else:
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channelwise", [False, True])
def test_planted_patterns_have_no_error_and_the_others_their_own(channelwise: bool) -> None:
    torch.manual_seed(0)
    largest = 2
    patterns = dilate.up_to(largest)
    conv = nn.Conv2d(4, 4, 5, padding=2, groups=4 if channelwise else 1, bias=False).double()
    masks = [dilate.kept((5, 5), largest, pattern) for pattern in patterns]
    with torch.no_grad():
        for row, mask in enumerate(masks):
            conv.weight[row] *= mask
    x = torch.randn(6, 4, 9, 9, dtype=torch.float64)
    errors = dilate.output_errors(conv, x, largest)
    torch.testing.assert_close(errors.diagonal(), torch.zeros(4, dtype=torch.float64))
    assert errors.argmin(1).tolist() == [0, 1, 2, 3]
    for i, j in itertools.product(range(4), range(4)):  # by the definition, filter by filter
        cut = nn.Conv2d(4, 4, 5, padding=2, groups=conv.groups, bias=False).double()
        cut.weight.data = conv.weight.data * masks[j]
        expected = (conv(x)[:, i] - cut(x)[:, i]).abs().mean()
        torch.testing.assert_close(errors[i, j], expected.detach())


def test_a_trained_grown_network_says_what_it_asks_for() -> None:
    pipeline = Pipeline([dilate.growing(2)], Given(TASK, examples))
    module, _ = pipeline.prepare(network())
    assert module.conv.weight.shape == (32, 32, 5, 5)
    with torch.no_grad():
        module.stem.weight *= dilate.kept((5, 5), 2, (2, 1))
        for rows, pattern in ((slice(0, 24), (1, 2)), (slice(24, 32), (1, 1))):
            module.conv.weight[rows] *= dilate.kept((5, 5), 2, pattern)
    _, reports = pipeline.deploy(module, TASK.input)
    found = reports[0].suggests
    assert found["kernel"] == "own"
    assert [found[f"section.0.filters.{i}"] for i in range(4)] == ["2x1"] * 4
    assert [found[f"section.2.filters.{i}"] for i in range(4)] == ["1x2"] * 3 + ["1x1"]
    assert found["section.1.dilated"] is False
    assert "conv: nearest patterns: 24 filters 1x2, 8 filters 1x1" in reports[0].touched


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        (StripeMixer(32, 9), "its kernel is merged with those beside it"),
        (nn.Conv2d(32, 32, 3, padding=2, dilation=2), "dilated already"),
        (nn.Conv2d(32, 32, 1), "it has none larger than 1x1"),
        (nn.Sequential(nn.AvgPool2d(6), Depthwise(32, 3)), "their maps are too small"),
    ],
    ids=["merged", "dilated", "points", "small"],
)
def test_a_network_with_nothing_to_choose_is_not_grown_and_trained(
    inside: nn.Module, why: str
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 32, 1), inside, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(NasError) as caught:
        Pipeline([dilate.growing(2)], Given(TASK, examples)).prepare(module)
    assert caught.value.problem == f"no convolution of this network can be dilated: {why}"


def test_groups_are_what_hardware_likes() -> None:
    for filters in range(1, 200):
        counts = dilate.shares(filters)
        assert sum(counts) == filters and len(counts) == 4
        assert all(n % 8 == 0 for n in counts[1:]) and counts[0] >= min(8, filters)


def test_seats_follow_votes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        votes = {
            p: float(v) for p, v in zip(dilate.up_to(3), rng.dirichlet([0.3] * 9), strict=True)
        }
        seats = dilate.apportioned(votes)
        assert len(seats) == 4 and seats == sorted(seats, reverse=True)
        for pattern, share in votes.items():
            assert abs(seats.count(pattern) - 4 * share) < 1
    assert dilate.apportioned({}) == [(1, 1)] * 4
