"""One-shot aggregation: VoVNet and its second version, as one space.

A stem of three convolutions, three or four stages behind pools, a head. Each stage chooses its
depth, width, the width and number of the convolutions that a block concatenates, and its gate.
The published networks are presets; `nas.networks.osa` has the structure.
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
from nas.networks.published.osa import PRESETS

STAGES = 4
NAMES = {"stem.width": "stem_width", "stem.end": "stem_end", "stem.stride": "stem_stride"}


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no images of 8 pixels or more.
    """
    side = image_side(task, "osa")
    return [*_network(side), *(decision for i in range(STAGES) for decision in _stage(i, side))]


def _network(side: int) -> Iterator[Decision]:
    """The decisions that all stages share."""
    yield Choice("stages", [3, 4] if side <= 64 else [4])
    yield Choice("stem.width", [16, 24, 32] if side <= 64 else [32, 64])
    yield Choice("stem.end", [16, 32, 48] if side <= 64 else [64, 128])
    yield Choice("stem.stride", [1] if side < 48 else [1, 2] if side <= 128 else [2, 4])
    yield Choice("activation", ["relu", "silu", "hardswish", "gelu", "mish"])
    yield Choice("depthwise", [False, True])
    yield Choice("residual", [False, True])
    yield Choice("gated", ["last", "every"])
    yield Choice("drop_path", [0.0, 0.1], when={"residual": [True]})


def _stage(i: int, side: int) -> Iterator[Decision]:
    """The decisions of stage `i`, the first being 0."""
    at = f"stages.{i}."
    exists: dict[str, list[Value]] = {"stages": [4]} if i == 3 else {}
    bases = (24, 32, 48, 64) if side <= 64 else (112, 128, 192, 256)
    inner = (16, 24, 32, 48) if side <= 64 else (64, 96, 128, 160)
    yield Choice(at + "depth", [1, 2] if side <= 64 else [1, 2, 3, 4], when=exists)
    yield Choice(at + "width", [base * (i + 1) for base in bases], when=exists)
    yield Choice(at + "inner", [base * (4 + i) // 4 for base in inner], when=exists)
    yield Choice(at + "layers", [2, 3] if side <= 64 else [2, 3, 4, 5], when=exists)
    yield Choice(at + "gate", ["none", "ese", "se", "eca"], when=exists)


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, H, W) -> (B, outputs)` that the choices name."""
    from nas.networks.osa import AggregationNet, AggregationNetwork, AggregationStage

    named, plans = staged(choices, int(choices["stages"]))
    around = {NAMES.get(name, name): value for name, value in named.items()}
    stages = tuple(AggregationStage(**plan) for plan in plans)
    return AggregationNet(AggregationNetwork(task.input[0], task.outputs, stages, **around))


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a network of more blocks and wider ones; blocks keep their layers."""
    return scaled(choices, rule, (".width", ".inner", ".end"))


space = SearchSpace("osa", decisions, build, presets=PRESETS, scale=scale)
