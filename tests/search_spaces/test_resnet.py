"""The space `resnet`: its calibration constants, what it proposes, how it scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas import NasError, TaskSpec
from nas.core.scaling import scaling
from nas.hardware.counting import count
from search_spaces.resnet import network, space

IMAGENET = TaskSpec("imagenet", (3, 224, 224), 1000)
# pycls' own integers: parameters, MACs with the 1000 biases of the last layer, activations
PYCLS = {
    "resnet50": (25557032, 4089185256, 11315688),
    "resnet101": (44549160, 7801406440, 16433640),
    "resnet152": (60192808, 11513627624, 22755816),
    "resnext50_32x4d": (25028904, 4230480872, 14602216),
    "resnext101_32x4d": (44177704, 7969997800, 21426152),
    "resnext152_32x4d": (59951400, 11709514728, 29855720),
    "regnetx_040": (22118248, 3964499816, 12201608),
    "regnety_008": (6263168, 797183328, 5249888),
    "regnety_040": (20646656, 3973301344, 12287200),
    "regnety_160": (83590140, 15911534044, 23041228),
    "regnety_320": (145046770, 32279583362, 30261570),
}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PYCLS)
def test_constants_of_pycls_to_the_last_digit(preset: str) -> None:
    with torch.device("meta"):
        module = space.build(space.at(IMAGENET).preset(preset).choices, IMAGENET)
    counts = count(module, IMAGENET.input)
    # pycls counts a bias as a MAC, and what a pool and the last layer write as activations
    layers = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    biases = sum(m.bias.numel() for m in layers if m.bias is not None)
    pooled = 64 * 56 * 56 if any(isinstance(m, torch.nn.MaxPool2d) for m in module.modules()) else 0
    activations = counts.activations + pooled + IMAGENET.outputs
    assert (counts.params, counts.macs + biases, activations) == PYCLS[preset]


@pytest.mark.parametrize("side", [8, 32, 64, 224])
def test_what_is_proposed_can_be_divided(side: int) -> None:
    task = TaskSpec("x", (3, side, side), 10)
    at, rng = space.at(task), np.random.default_rng(side)
    for _ in range(200):
        for stage in network(at.sample(rng).choices, task).stages:
            parts = {"scales": stage.scale, "split": stage.radix}.get(stage.conv, 1)
            assert stage.spatial % (parts * stage.groups) == 0


def test_a_regnet_is_its_line_of_widths() -> None:
    stages = network(space.at(IMAGENET).preset("regnety_040").choices, IMAGENET).stages
    assert [stage.depth for stage in stages] == [2, 6, 12, 2]
    assert [stage.width for stage in stages] == [128, 192, 512, 1088]
    assert [stage.width // stage.groups for stage in stages] == [64] * 4


def test_images_too_small() -> None:
    with pytest.raises(NasError, match="8 pixels"):
        space.at(TaskSpec("x", (3, 7, 9), 10))


def scaled(preset: str, rule: str, factor: float) -> tuple[float, float]:
    """How many times the MACs and activations of a preset a rule makes, resolution included."""
    step = scaling(rule, factor)
    point = space.at(IMAGENET).preset(preset).choices
    assert space.scale is not None
    side = step.larger(224)
    larger = TaskSpec("imagenet", (3, side, side), 1000)
    counts = []
    for choices, task in ((point, IMAGENET), (space.scale(point, step), larger)):
        with torch.device("meta"):
            counts.append(count(space.build(choices, task), task.input))
    before, after = counts
    return after.macs / before.macs, after.activations / before.activations


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["resnet50", "resnext50_32x4d", "regnetx_040"])
def test_fast_scaling_reaches_its_factor_with_fewer_activations(preset: str) -> None:
    macs, activations = scaled(preset, "dwr", 8)
    assert macs == pytest.approx(8, rel=0.12)  # 0.1 % would need no rounding to 8 channels
    assert activations == pytest.approx(8**0.6, rel=0.12)
    _, compound = scaled(preset, "compound", 8)
    assert compound > 1.3 * activations


def test_groups_grow_with_widths() -> None:
    assert space.scale is not None
    point = space.at(IMAGENET).preset("regnetx_040").choices
    choices = space.scale(point, scaling("dwr", 8))
    for i, width in enumerate((80, 240, 560, 1360)):
        assert point[f"stages.{i}.width"] == width
        wider, groups = (float(choices[f"stages.{i}.{name}"]) for name in ("width", "groups"))
        assert wider / width == pytest.approx(8**0.4, rel=0.05)
        assert wider / groups == 88  # 40 channels a group, times 2.297, to a multiple of 8
