"""Plain 3x3 networks, and how they are trained: RepVGG and RepOpt-VGG as one space.

A stem and up to four stages of 3x3 convolutions. What is deployed is always the same plain network;
`branches` says what it is in training: three branches that are merged, or one convolution whose
gradients are multiplied as if there were three. `nas.networks.repopt` has the structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nas import Choice, SearchSpace
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.scaling import Scaling
from nas.core.staged import image_side, scaled, staged
from nas.core.task import Task, TaskSpec
from nas.networks.published.repopt import PRESETS

STAGES = 4


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no images of 8 pixels or more.
    """
    side = image_side(task, "repopt")
    return [*_network(side), *(decision for i in range(STAGES) for decision in _stage(i, side))]


def _network(side: int) -> Iterator[Decision]:
    """The decisions that all stages share."""
    small = side <= 64
    yield Choice("branches", ["three", "pointwise", "one", "repopt", "scaled"])
    yield Choice("gate", ["none", "se"], when={"branches": ["three", "pointwise", "one"]})
    yield Choice("stem.width", [16, 24, 32] if small else [32, 48, 64])
    yield Choice("stem.stride", [1, 2] if small else [2])


def _stage(i: int, side: int) -> Iterator[Decision]:
    """The decisions of stage `i`, the first being 0."""
    at, small = f"stages.{i}.", side <= 64
    bases = (16, 24, 32, 48) if small else (48, 64, 96, 128, 160, 192)
    yield Choice(at + "depth", [1, 2, 3, 4] if small else [1, 2, 4, 6, 8, 14, 16, 24])
    yield Choice(at + "width", [base * 2**i for base in bases])
    yield Choice(at + "stride", [1, 2] if small else [2])
    yield Choice(at + "groups", [1, 2, 4])


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, H, W) -> (B, outputs)` that the choices name."""
    from nas.networks.repopt import PlainNet, PlainNetwork, PlainStage

    _, plans = staged(choices, STAGES)
    return PlainNet(
        PlainNetwork(
            task.input[0], task.outputs, tuple(PlainStage(**plan) for plan in plans),
            int(choices["stem.width"]), int(choices["stem.stride"]), str(choices["branches"]),
            str(choices.get("gate", "none")),
        )
    )  # fmt: skip


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a network of more blocks and wider ones."""
    return scaled(choices, rule)


space = SearchSpace("repopt", decisions, build, presets=PRESETS, scale=scale)
