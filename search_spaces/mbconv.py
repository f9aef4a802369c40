"""Mobile inverted bottlenecks: EfficientNet, MobileNetV2 and V3, SkipblockNet, as one space.

A stem, runs of equal blocks, a head. Each run chooses its depth, width, stride, depthwise kernel,
expansion, activation, gate, and whether a long skip from the first run ends there. The published
networks are presets; `nas.networks.mbconv` has the structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nas import Choice, SearchSpace
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.scaling import Scaling, rounded_width
from nas.core.staged import image_side, scaled, staged
from nas.core.task import Task, TaskSpec
from nas.networks.published.mbconv import PRESETS

STAGES = 10  # the most that a preset has
WIDTHS = (16, 24, 40, 80, 112, 192, 320, 320, 320, 320)  # EfficientNet-B0's
# as the published networks have them; with wide maps in every run a network trains for minutes
STRIDES = {0: [1], 1: [2], 3: [2]}
ACTIVATIONS = ["silu", "relu", "hardswish", "relu6", "gelu", "mish"]


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no images of 8 pixels or more.
    """
    side = image_side(task, "mbconv")
    return [*_network(side), *(decision for i in range(STAGES) for decision in _stage(i, side))]


def _network(side: int) -> Iterator[Decision]:
    """The decisions that all stages share."""
    yield Choice("stages", [4, 5, 6] if side <= 64 else [5, 6, 7])
    yield Choice("stem.width", [8, 16, 24, 32])
    yield Choice("stem.stride", [1] if side < 48 else [1, 2] if side <= 128 else [2])
    yield Choice("activation", ACTIVATIONS)
    yield Choice("ratio", [1 / 8, 1 / 4, 1 / 2])
    yield Choice("ratio.of", ["input", "hidden"])
    yield Choice("gate.activation", ["silu", "relu"])
    yield Choice("gate.squash", ["sigmoid", "hardsigmoid"])
    yield Choice("head.width", [128, 256, 512] if side <= 64 else [640, 960, 1280])
    yield Choice("head.hidden", [0, 256] if side <= 64 else [0, 1280])
    yield Choice("dropout", [0.0, 0.2])
    yield Choice("drop_path", [0.0, 0.1])


def _stage(i: int, side: int) -> Iterator[Decision]:
    """The decisions of run `i`, the first being 0."""
    at = f"stages.{i}."
    exists: dict[str, list[Value]] = {"stages": list(range(i + 1, STAGES + 1))} if i > 3 else {}
    shares = (0.5, 0.75, 1.0, 1.5) if side <= 64 else (0.75, 1.0, 1.25, 1.5)
    later: dict[str, Any] = {"when": exists or None}
    yield Choice(at + "depth", [1, 2] if side <= 64 else [1, 2, 3, 4], **later)
    yield Choice(at + "width", sorted({rounded_width(WIDTHS[i] * s) for s in shares}), **later)
    yield Choice(at + "stride", STRIDES.get(i, [1, 2]), **later)
    yield Choice(at + "kernel", [3, 5, 7], **later)
    yield Choice(at + "expansion", [2, 3, 4, 6] if i else [1, 2, 4], **later)
    yield Choice(at + "activation", ACTIVATIONS, **later)
    yield Choice(at + "gate", ["none", "se", "eca"], **later)
    if i:
        skips = [0, 2, 4, 6] if i > 1 else [0]
        yield Choice(at + "skip", skips, **later)
        yield Choice(at + "skip_kernel", [3, 5], when={**exists, at + "skip": [2, 2.3, 4, 6]})


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, H, W) -> (B, outputs)` that the choices name."""
    from nas.networks.mbconv import MobileNet, MobileNetwork, MobileStage

    named, plans = staged(choices, int(choices["stages"]))
    around = {name.replace(".", "_"): value for name, value in named.items()}
    stages = tuple(MobileStage(**plan) for plan in plans)
    return MobileNet(MobileNetwork(task.input[0], task.outputs, stages, **around))


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a deeper and wider network; stem and head widen with it (EfficientNet)."""
    return scaled(choices, rule, (".width", "head.hidden"))


space = SearchSpace("mbconv", decisions, build, presets=PRESETS, scale=scale)
