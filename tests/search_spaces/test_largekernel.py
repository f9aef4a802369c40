"""The space `largekernel`: what it proposes, what it drops, what it builds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas import Architecture, NasError, TaskSpec
from search_spaces.largekernel import network, space


def task(side: int, channels: int = 3, outputs: int = 10) -> TaskSpec:
    return TaskSpec("x", (channels, side, side), outputs)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


SPACES = {side: space.at(task(side)) for side in (8, 16, 28, 32, 33, 48, 64, 96, 224, 384)}


def faults(architecture: Architecture, side: int) -> list[str]:
    """What a proposal must not have: kernels beyond their maps, foreign values, odd widths."""
    choices: dict[str, Any] = dict(architecture.choices)
    found = []
    for i in range(4):
        size = max(1, side // choices["stem.stride"] // 2**i)
        kernel = choices.get(f"stages.{i}.kernel", 1)
        if kernel > 2 * size - 1:
            found.append(f"stage {i}: kernel {kernel} on a map of {size}")
        mixer = choices[f"stages.{i}.mixer"]
        if mixer == "dilated" and kernel not in (5, 7, 9, 11, 13, 15, 17):
            found.append(f"stage {i}: dilated {kernel}")
        if mixer == "inception" and choices[f"stages.{i}.fraction"] > 1 / 3:
            found.append(f"stage {i}: three groups of {choices[f'stages.{i}.fraction']}")
        if choices[f"stages.{i}.width"] % 16:
            found.append(f"stage {i}: width {choices[f'stages.{i}.width']}")
        if kernel == 3 and f"stages.{i}.period" in choices:
            found.append(f"stage {i}: a period of 3x3 kernels")
        if choices[f"stages.{i}.depth"] == 1 and f"stages.{i}.period" in choices:
            found.append(f"stage {i}: a period of one block")
    return found


@settings(max_examples=60, deadline=None)
@given(side=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 2**32 - 1))
def test_what_is_proposed_fits_the_maps(side: int, seed: int) -> None:
    at, rng = SPACES[side], np.random.default_rng(seed)
    one, other = at.sample(rng), at.sample(rng)
    preset = at.preset("pelk_b101")
    children = [
        *at.neighbours(one, rng, 3),
        at.crossover(one, other, rng),
        at.crossover(one, preset, rng),
    ]
    for proposed in (one, other, *children[:4]):
        assert faults(proposed, side) == [], proposed.choices
    for proposed in (one, other, *children):
        assert at.check(proposed.choices) == []
        assert at.architecture(proposed.choices) == proposed
    mixed = [f for f in faults(children[4], side) if "width" not in f]  # a preset's widths stay
    assert mixed == []


@pytest.mark.parametrize(
    ("side", "strides"),
    [(8, (1,)), (28, (1,)), (32, (1, 2)), (64, (1, 2, 4)), (224, (2, 4)), (512, (4,))],
)
def test_stem_strides_follow_the_input(side: int, strides: tuple[int, ...]) -> None:
    [stem] = [d for d in space.at(task(side)).listed if d.name == "stem.stride"]
    assert stem.values == strides


def test_kernels_reach_across_the_map_and_no_further() -> None:
    at, rng = SPACES[32], np.random.default_rng(1)
    seen: dict[tuple[int, int], set[int]] = {}
    for _ in range(800):
        choices: dict[str, Any] = dict(at.sample(rng).choices)
        for i in range(4):
            key = (choices["stem.stride"], i)
            seen.setdefault(key, set()).add(choices.get(f"stages.{i}.kernel", 1))
    assert [max(seen[1, i]) for i in range(4)] == [63, 31, 15, 7]
    assert [max(seen[2, i]) for i in range(4)] == [31, 15, 7, 3]


def test_decisions_without_effect_are_dropped_from_the_key() -> None:
    at = SPACES[32]
    preset = dict(at.preset("convnext_a").choices)
    noise = {
        "stages.0.core": 3, "stages.0.small": 5, "stages.0.positional": True,
        "stages.0.ratio": 1 / 16, "stages.1.widening": 1.5,
    }  # fmt: skip
    assert at.architecture({**preset, **noise}).key == at.preset("convnext_a").key
    plain = {**preset, "stages.2.kernel": 3, "stages.2.period": 1}
    other = {**plain, "stages.2.period": 3}
    assert at.architecture(plain).key == at.architecture(other).key
    identity = {**preset, "stages.2.mixer": "identity"}
    assert "stages.2.kernel" not in at.architecture(identity).choices
    assert "stages.2.fraction" not in at.architecture(identity).choices


def test_presets_may_use_what_is_never_proposed() -> None:
    at = SPACES[32]
    choices = at.preset("slak_t").choices
    assert (choices["stages.2.kernel"], choices["stages.0.width"], choices["density"]) == (
        47,
        124,
        0.6,
    )
    assert at.check({**choices, "stages.2.kernel": 6}) != []


@pytest.mark.parametrize("name", sorted(space.presets))
def test_every_preset_builds_and_runs_at_32_pixels(name: str) -> None:
    spec = task(32, outputs=7)
    with torch.device("meta"):
        module = space.build(space.at(spec).preset(name).choices, spec).eval()
    assert module(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("side", [8, 17, 32])
def test_samples_train_on_images_of_any_channels(side: int) -> None:
    spec = task(side, channels=1, outputs=3)
    at, rng = space.at(spec), np.random.default_rng(side)
    for _ in range(3):
        architecture = at.sample(rng)
        small = {
            name: min(v, 16) if name.endswith((".width", ".depth")) else v
            for name, v in architecture.choices.items()
        }
        module: nn.Module = space.build(small, spec)
        x, y = torch.randn(4, 1, side, side), torch.tensor([0, 1, 2, 0])
        nn.functional.cross_entropy(module(x), y).backward()
        assert all(p.grad is not None for p in module.parameters()), architecture.choices


def test_the_plan_of_a_preset() -> None:
    plan = network(space.presets["unireplknet_t"], task(224, outputs=1000))
    assert [s.width for s in plan.stages] == [80, 160, 320, 640]
    assert [s.depth for s in plan.stages] == [3, 3, 18, 3]
    assert [(s.mixer, s.kernel, s.period) for s in plan.stages] == [
        ("depthwise", 3, 1), ("dilated", 13, 1), ("dilated", 13, 2), ("dilated", 13, 1),
    ]  # fmt: skip


def test_the_size_is_counted_at_once() -> None:
    assert SPACES[32].size > 1e25
    assert SPACES[224].size > SPACES[32].size


@pytest.mark.parametrize("shape", [(3, 4, 4), (64,)])
def test_inputs_that_are_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(NasError, match="needs images"):
        space.at(TaskSpec("x", shape, 10))


def test_images_too_small_for_a_preset() -> None:
    spec = task(16)
    with pytest.raises(NasError, match="vanish"):
        space.build(space.at(spec).preset("convnext_t").choices, spec)


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from search_spaces.largekernel import space; from nas import TaskSpec; "
        "space.at(TaskSpec('x', (3, 32, 32), 10)).size; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
