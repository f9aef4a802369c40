"""Residual networks: ResNet and what grew from it, as one space.

A stem, three or four stages of basic, bottleneck or dual-path blocks, a head. Each stage chooses
its depth, width, bottleneck, cardinality, the kind of its spatial convolution (plain, Res2Net's
scales, ResNeSt's splits, SKNet's two kernels) and its gate; the network chooses where norms,
strides and shortcuts are, the activation, and LAuReL's skips. The published networks are presets;
`nas.networks` has the structures, one paper a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nas import Choice, SearchSpace
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.scaling import Scaling
from nas.core.staged import image_side, staged
from nas.core.task import Task, TaskSpec
from nas.networks.published.resnet import PRESETS

STAGES = 4
NAMES = {"stem.kind": "stem", "stem.pool": "pool"}
PARTLY: list[Value] = ["none", "last", "others"]  # places of attention that leave convolutions
RESIDUAL: dict[str, list[Value]] = {"block": ["basic", "bottleneck"]}


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no images of 8 pixels or more.
    """
    side = image_side(task, "resnet")
    return [*_network(side), *(decision for i in range(STAGES) for decision in _stage(i, side))]


def _network(side: int) -> Iterator[Decision]:
    """The decisions that all stages share."""
    strides = [1, 2] if side <= 128 else [2, 4]
    yield Choice("stages", [3, 4] if side <= 64 else [4])
    yield Choice("stem.kind", ["3x3", "deep", "tiered"] if side < 96 else ["7x7", "deep", "tiered"])
    yield Choice("stem.width", [16, 24, 32] if side <= 64 else [32, 64])
    yield Choice("stem.stride", strides)
    yield Choice("stem.pool", ["max", "conv", "last"], when={"stem.stride": [4]})
    later = [1] if side < 48 else [1, 2]
    yield Choice("stages.0.stride", later, when={"stem.stride": [2]})
    yield Choice("block", ["basic", "bottleneck", "dual"])
    yield Choice("order", ["post", "pre"], when=RESIDUAL)
    yield Choice("norm", ["batch"], when=RESIDUAL)
    yield Choice("activation", ["relu", "silu", "hardswish", "gelu", "mish"])
    yield Choice("shortcut", ["conv", "pool"], when=RESIDUAL)
    places = ["spatial", "reduce", "before", "after"]
    yield Choice("shrink", places, when={"block": ["bottleneck"]})
    yield Choice("reduce", [1.0], when={"block": ["bottleneck"]})
    yield Choice("gate.at", ["last", "inner"], when=RESIDUAL)
    yield Choice("gate.of", ["output", "input"], when=RESIDUAL)
    skips = ["plain", "rw", "lr", "rw+lr", "rw+lr+pa"]
    yield Choice("skip", skips, when=RESIDUAL)
    low = [skip for skip in skips if "lr" in skip]
    yield Choice("rank", [4, 8, 16] if side <= 64 else [8, 16, 32], when={"skip": low})
    yield Choice("head.width", [0])
    yield Choice("zero_gamma", [False, True], when=RESIDUAL)
    yield Choice("dropout", [0.0])
    yield Choice("drop_path", [0.0, 0.1], when=RESIDUAL)


def _stage(i: int, side: int) -> Iterator[Decision]:
    """The decisions of stage `i`, the first being 0."""
    at = f"stages.{i}."
    exists: dict[str, list[Value]] = {"stages": [4]} if i == 3 else {}
    convolves: dict[str, list[Value]] = {at + "attends": PARTLY} if i else {}
    depths, widths, increments = _sizes(i, side)
    yield Choice(at + "depth", depths, when=exists)
    yield Choice(at + "width", widths, when=exists)
    yield Choice(at + "inner", [0.25, 0.5, 1.0], when=exists)
    if i:  # on the first stage's maps attention would take as long as all else
        yield from _attention(at, exists)
    wide: dict[str, list[Value]] = {**exists, "block": ["bottleneck", "dual"]}
    yield Choice(at + "groups", [1, 2, 4, 8, 16, 32], when=wide)
    kinds = ["plain", "scales", "split", "select"]
    narrow: dict[Value, list[Value]] = {"basic": ["plain", "select"]}
    yield Choice(
        at + "conv",
        kinds,
        when={**exists, **convolves, **RESIDUAL},
        within={"block": narrow},
    )
    yield Choice(at + "scale", [2, 4], when={at + "conv": ["scales"]})
    yield Choice(at + "radix", [1, 2], when={at + "conv": ["split"]})
    gates: list[Value] = ["none", "se", "eca", "ese", "scse", "gc", "grn"]
    within: dict[str, dict[Value, list[Value]]] = {"block": {"dual": gates[:-1]}}
    yield Choice(at + "gate", gates, when={**exists, **convolves}, within=within)
    yield Choice(at + "ratio", [1 / 16, 1 / 8, 1 / 4], when={at + "gate": ["se"]})
    yield Choice(at + "increment", increments, when={**exists, "block": ["dual"]})


def _attention(at: str, exists: dict[str, list[Value]]) -> Iterator[Decision]:
    """The decisions of HaloNet's attention in the place of a stage's spatial convolutions."""
    blocks: dict[Value, list[Value]] = {"basic": ["none"], "dual": ["none"]}
    depths: dict[Value, list[Value]] = {1: ["none", "all"]}
    within = {"block": blocks, at + "depth": depths}
    yield Choice(at + "attends", [*PARTLY, "all"], when=exists, within=within)
    on: dict[str, list[Value]] = {at + "attends": ["last", "others", "all"]}
    yield Choice(at + "heads", [4, 8], when=on)
    yield Choice(at + "head", [0, 16], when=on)
    yield Choice(at + "window", [4, 8], when=on)
    yield Choice(at + "halo", [0, 1, 2, 3], when=on)


def _sizes(i: int, side: int) -> tuple[list[int], list[int], list[int]]:
    """Depths, widths and dense increments proposed for stage `i` on images of `side` pixels."""
    bases: tuple[int, ...]
    if side <= 48:
        depths, bases, increments = [1, 2, 3], (16, 24, 32, 48), [8, 16]
    elif side <= 128:
        depths, bases, increments = [1, 2, 3, 4], (32, 64, 96, 128), [8, 16, 32]
    else:
        depths = [2, 3, 4, 6, 9, 12, 23] if i in (1, 2) else [1, 2, 3, 4]
        bases, increments = (64, 96, 128, 192, 256), [16, 32, 64]
    return depths, [base * 2**i for base in bases], increments


def network(choices: Choices, task: Task | TaskSpec) -> Any:
    """The choices as the plan of a network (`nas.networks.resnet.ResidualNetwork`)."""
    from nas.networks.resnet import ResidualNetwork, ResidualStage

    named, chosen = staged(choices, int(choices["stages"]))
    plans = [{"stride": 2 if i else 1, **stage} for i, stage in enumerate(chosen)]
    around = {NAMES.get(name, name.replace(".", "_")): value for name, value in named.items()}
    return ResidualNetwork(
        task.input[0], task.outputs, tuple(ResidualStage(**p) for p in plans), **around
    )


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, H, W) -> (B, outputs)` that the choices name."""
    from nas.networks.resnet import ResidualNet

    return ResidualNet(network(choices, task))


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a deeper and wider network; group widths grow as the rule says.

    Stem, head and dense increments widen with the stages.
    """
    scaled = dict(choices)
    for name in ("stem.width", "head.width"):
        if choices.get(name):
            scaled[name] = rule.wider(int(choices[name]))
    for i in range(int(choices["stages"])):
        at = f"stages.{i}."
        width, inner = int(choices[at + "width"]), float(choices[at + "inner"])
        groups = int(choices.get(at + "groups", 1))
        scaled[at + "depth"] = rule.deeper(int(choices[at + "depth"]))
        scaled[at + "width"] = rule.wider(width)
        if at + "increment" in choices:
            scaled[at + "increment"] = rule.wider(int(choices[at + "increment"]))
        if groups > 1:
            group = rule.grouped(max(1, round(width * inner / groups)))
            if inner == 1:
                scaled[at + "width"] = rule.wider(width, group)
            spatial = float(scaled[at + "width"]) * inner
            scaled[at + "groups"] = max(1, round(spatial / group))
    return scaled


space = SearchSpace("resnet", decisions, build, presets=PRESETS, scale=scale)
