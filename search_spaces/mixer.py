"""Token mixers beyond plain convolution, in three skeletons, as one space.

`meta`: four stages of mixer and MLP (HorNet); the mixer of a stage is a recursive gated
convolution, a filter in the Fourier or cosine spectrum, a kernel made of the image, of its place or
of a number that one sets, or a deformable convolution. `frequency`: mobile bottlenecks and spectral
filters (AFFNet). `perceptron`: fully connected layers over whole maps (RepMLPNet). Each has a file
in `nas.networks`; the published networks are presets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nas import Choice, SearchSpace
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.scaling import Scaling
from nas.core.staged import scaled, square_side, staged
from nas.core.task import Task, TaskSpec
from nas.networks.published.mixer import PRESETS

MIXERS = ["gated", "adaptive", "cosine", "conditioned", "hyper", "variant", "tunable", "deformable",
          "salient"]  # fmt: skip
OFFSETS = ["bounded", "square", "square depthwise", "original"]


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no square images whose side is a multiple of 16.
    """
    side = square_side(task, "mixer", 16)
    skeletons = Choice("skeleton", ["meta", "frequency", "perceptron"])
    return [skeletons, *_meta(side), *_frequency(side), *_perceptron(side)]


def _meta(side: int) -> Iterator[Decision]:
    """The decisions of the skeleton `meta`."""
    on: Mapping[str, list[Value]] = {"skeleton": ["meta"]}
    small = side <= 64
    yield Choice("meta.patch", [2] if small else [4], when=on)
    yield Choice("meta.drop_path", [0.0, 0.1], when=on)
    yield Choice("meta.norm", ["layer", "unified"], when=on)
    bases = (16, 32, 48) if small else (48, 64, 96, 128)
    for i in range(4):
        at = f"meta.stages.{i}."
        yield Choice(at + "depth", [1, 2] if small else [2, 3, 6, 12, 18], when=on)
        yield Choice(at + "width", [base * 2**i for base in bases], when=on)
        yield Choice(at + "mixer", MIXERS, when=on)
        gated = {at + "mixer": ["gated"]}
        yield Choice(at + "order", [1, 2, 3, 4, 5], when=gated)
        kernels: dict[Value, list[Value]] = {"gated": [0, 3, 5, 7, 9, 11]}
        kernels |= {mixer: [3, 5, 7] for mixer in ("variant", "tunable")}
        yield Choice(
            at + "kernel", [0, 3, 5, 7, 9, 11], when={at + "mixer": list(kernels)},
            within={at + "mixer": kernels},
        )  # fmt: skip
        yield Choice(at + "scale", [1 / 3, 1.0], when=gated)
        yield Choice(at + "blocks", [4, 8, 16], when={at + "mixer": ["adaptive", "cosine"]})
        yield Choice(at + "threshold", [0.0, 0.01, 0.1], when={at + "mixer": ["adaptive"]})
        yield Choice(at + "offsets", OFFSETS, when={at + "mixer": ["deformable"]})
        yield Choice(at + "expansion", [2, 3, 4], when=on)


def _frequency(side: int) -> Iterator[Decision]:
    """The decisions of the skeleton `frequency`."""
    on: Mapping[str, list[Value]] = {"skeleton": ["frequency"]}
    small = side <= 64
    yield Choice("frequency.stem.width", [8, 16], when=on)
    yield Choice("frequency.stem.stride", [1] if small else [2], when=on)
    yield Choice("frequency.expansion", [2, 4], when=on)
    yield Choice("frequency.inner", [2, 4], when=on)
    yield Choice("frequency.blocks", [4, 8], when=on)
    yield Choice("frequency.threshold", [0.0, 0.01, 0.1], when=on)
    yield Choice("frequency.head", [2, 4], when=on)
    widths = ((16, 32), (24, 48), (32, 64, 96), (64, 104, 160), (96, 144, 192, 320))
    for i, listed in enumerate(widths):
        at = f"frequency.stages.{i}."
        yield Choice(at + "depth", [1, 2] if small else [1, 2, 3, 4], when=on)
        yield Choice(at + "width", list(listed), when=on)


def _perceptron(side: int) -> Iterator[Decision]:
    """The decisions of the skeleton `perceptron`: matrices over maps of few pixels."""
    on: Mapping[str, list[Value]] = {"skeleton": ["perceptron"]}
    small = side <= 64
    yield Choice("perceptron.patch", [4] if small else [8, 16], when=on)
    yield Choice("perceptron.local", ["1+3", "3", "1+3+5"], when=on)
    yield Choice("perceptron.expansion", [2, 4], when=on)
    for i in range(4):
        at = f"perceptron.stages.{i}."
        yield Choice(at + "depth", [1, 2] if small else [2, 6, 12], when=on)
        widths = [base * 2**i for base in ((16, 32) if small else (48, 64, 96))]
        yield Choice(at + "width", widths, when=on)
        yield Choice(at + "sets", [1, 4, 16], when=on)


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, S, S) -> (B, outputs)` that the choices name."""
    skeleton = str(choices["skeleton"])
    around, stages = staged(choices, 5 if skeleton == "frequency" else 4, f"{skeleton}.")
    return {"meta": _mixed, "frequency": _filtered, "perceptron": _connected}[skeleton](
        stages, around, task
    )


def _mixed(stages: list[dict[str, Any]], around: dict[str, Any], task: Task | TaskSpec) -> Any:
    from nas.networks.metaformer import MixerNet, MixerNetwork, MixerStage

    plans = tuple(MixerStage(**stage) for stage in stages)
    return MixerNet(MixerNetwork(task.input[0], task.input[1], task.outputs, plans, **around))


def _filtered(stages: list[dict[str, Any]], around: dict[str, Any], task: Task | TaskSpec) -> Any:
    from nas.networks.affnet import FrequencyNet, FrequencyNetwork, FrequencyStage

    shared = {"blocks": around["blocks"], "threshold": around["threshold"]}
    plans = tuple(
        FrequencyStage(stride=1 if i == 0 else 2, filtered=i > 1, **shared, **stage)
        for i, stage in enumerate(stages)
    )
    return FrequencyNet(
        FrequencyNetwork(
            task.input[0], task.outputs, plans, around["stem.width"], around["stem.stride"],
            around["expansion"], around["inner"], around["head"],
        )
    )  # fmt: skip


def _connected(stages: list[dict[str, Any]], around: dict[str, Any], task: Task | TaskSpec) -> Any:
    from nas.networks.repmlp import PerceptronNet, PerceptronNetwork, PerceptronStage

    kernels = tuple(int(kernel) for kernel in around["local"].split("+"))
    plans = tuple(
        PerceptronStage(kernels=kernels, expansion=around["expansion"], **stage) for stage in stages
    )
    return PerceptronNet(
        PerceptronNetwork(task.input[0], task.input[1], task.outputs, plans, around["patch"])
    )


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a network of more blocks and wider ones.

    Widths become multiples of 16, and of the sets of channels that share a matrix.
    """
    found = scaled(choices, rule, multiple=16)
    for name, sets in choices.items():
        if name.endswith(".sets"):
            width = name.removesuffix("sets") + "width"
            found[width] = rule.wider(int(choices[width]), math.lcm(16, int(sets)))
    return found


space = SearchSpace("mixer", decisions, build, presets=PRESETS, scale=scale)
