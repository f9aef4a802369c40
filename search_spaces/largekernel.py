"""Large-kernel convolutional networks: ConvNeXt and what grew from it, as one hierarchical space.

A stem, four stages of blocks with downsampling between them, and a head. Each stage chooses its
token mixer, from a plain depthwise convolution to UniRepLKNet's dilated branches, SLaK's stripes
and PeLK's shared periphery, with kernels up to what its maps can use. The published networks are
presets; `nas.networks` has the structures, one paper a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas import Choice, NasError, SearchSpace
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.scaling import Scaling
from nas.core.staged import image_side, scaled, staged
from nas.core.task import Task, TaskSpec
from nas.networks.published.largekernel import PRESETS

KERNELS = (3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31, 41, 51, 63, 81, 101)
ODD = tuple(range(5, 202, 2))
DILATED = (5, 7, 9, 11, 13, 15, 17)
MIXERS: dict[Value, Sequence[Value]] = {  # mixer -> its proposed kernels
    "identity": (),
    "depthwise": KERNELS,
    "inception": tuple(k for k in KERNELS if 5 <= k <= 31),
    "dilated": DILATED,
    "stripe": tuple(k for k in KERNELS if k >= 7),
    "peripheral": tuple(k for k in KERNELS if k >= 7),
    "smallkernel": tuple(k for k in KERNELS if 7 <= k <= 31),
}
PARTIAL = ("depthwise", "dilated", "stripe", "peripheral", "smallkernel")
DEEPER = tuple(range(2, 61))


def first_map(task: Task | TaskSpec, stride: int) -> int:
    """The shorter side of the first stage's maps."""
    return min(task.input[1:]) // stride


def strides(task: Task | TaskSpec) -> list[int]:
    """Stem strides that give first maps of 16 to 112 pixels a side; 1 for smaller inputs."""
    found = [s for s in (1, 2, 4) if 16 <= first_map(task, s) <= 112]
    if found:
        return found
    return [1] if first_map(task, 1) < 16 else [4]


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no images of 8 pixels or more.
    """
    image_side(task, "largekernel")
    return [*_skeleton(task), *(decision for i in range(4) for decision in _stage(i, task))]


def _skeleton(task: TaskSpec) -> Iterator[Decision]:
    """The decisions around the stages."""
    layouts = ["layer", "batch"]
    stems = ["patch", "overlapping", "deep"]
    yield Choice("stem.kind", stems)
    # the limit is the same for every stem: it keeps children of presets to what is proposed
    limit: Mapping[Value, Sequence[Value]] = {stem: strides(task) for stem in stems}
    yield Choice("stem.stride", strides(task), within={"stem.kind": limit})
    yield Choice("stem.norm", layouts, when={"stem.kind": ["patch", "overlapping"]})
    yield Choice("block", ["convnext", "unireplknet", "replknet"])
    yield Choice("layer_scale", [False, True], when={"block": ["convnext", "unireplknet"]})
    yield Choice("downsample.kind", ["patch", "overlapping", "depthwise"])
    yield Choice("downsample.norm", layouts, when={"downsample.kind": ["patch", "overlapping"]})
    yield Choice("head.kind", ["linear", "mlp"])
    yield Choice("head.norm", layouts, when={"head.kind": ["linear"]})
    yield Choice("drop_path", [0.0, 0.1])
    yield Choice("density", [1.0])


def _stage(i: int, task: TaskSpec) -> Iterator[Decision]:
    """The decisions of stage `i`, the first being 0."""
    at = f"stages.{i}."
    reach = {s: 2 * max(1, first_map(task, s) // 2**i) - 1 for s in strides(task)}
    lengths, widths = _sizes(i, min(task.input[1:]))

    def reachable(needed: Mapping[Any, Any]) -> dict[str, Mapping[Value, Sequence[Value]]]:
        """What can be proposed at each stride: values whose smallest kernel meets the map."""
        return {"stem.stride": {s: [v for v, k in needed.items() if k <= reach[s]] for s in reach}}

    yield Choice(at + "depth", lengths)
    yield Choice(at + "width", widths)
    smallest = {name: min(kernels, default=1) for name, kernels in MIXERS.items()}
    yield Choice(at + "mixer", list(MIXERS), within=reachable(smallest))
    on = at + "mixer"
    cores = {1: 7, 2: 9, 3: 11}  # smallest kernel in which cells are shared at all
    yield Choice(at + "core", [1, 2, 3], when={on: ["peripheral"]}, within=reachable(cores))
    listed: list[int] = [k for k in KERNELS if k <= max(reach.values())]
    allowed = reachable({k: k for k in listed})
    allowed[on] = dict(MIXERS)
    allowed[at + "core"] = {c: [k for k in listed if k >= n] for c, n in cores.items()}
    yield Choice(
        at + "kernel",
        listed or [3],  # on single pixels only the identity is proposed
        when={on: [m for m in MIXERS if m != "identity"]},
        within=allowed,
    )
    parts = [1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 1.0]
    shares: dict[Value, Sequence[Value]] = {mixer: parts[3:] for mixer in PARTIAL}
    shares["inception"] = parts[:4]
    yield Choice(at + "fraction", parts, when={on: list(shares)}, within={on: shares})
    yield Choice(at + "small", [3, 5], when={on: ["smallkernel"]})
    yield Choice(at + "positional", [False, True], when={on: ["peripheral"]})
    yield Choice(
        at + "period",
        [1, 2, 3],
        when={at + "depth": DEEPER, at + "kernel": ODD},
        within={at + "depth": {2: [1, 2]}},  # with two blocks, every third is every second
    )
    yield Choice(at + "expansion", [2, 3, 4, 6])
    yield Choice(at + "norm", ["layer", "batch"], when={"block": ["convnext"]})
    yield Choice(at + "activation", ["gelu", "relu", "silu", "hardswish"])
    yield Choice(at + "gate", ["none", "se", "grn", "se+grn"])
    yield Choice(at + "ratio", [1 / 16, 1 / 4], when={at + "gate": ["se", "se+grn"]})
    yield Choice(at + "widening", [1.0, 1.5], when={"block": ["replknet"]})


def _sizes(i: int, side: int) -> tuple[list[int], list[int]]:
    """Depths and widths proposed for stage `i` on images of `side` pixels."""
    if side <= 48:
        depths = [1, 2, 3, 4, 6, 9] if i == 2 else [1, 2, 3]
        bases: Sequence[int] = (16, 32, 48, 64)
    elif side <= 128:
        depths = [2, 3, 6, 9, 12] if i == 2 else [1, 2, 3]
        bases = (32, 48, 64, 96)
    else:
        depths = [3, 6, 9, 12, 18, 27] if i == 2 else [1, 2, 3, 4]
        bases = (48, 64, 80, 96, 128, 192)
    return depths, [base * 2**i for base in bases]


def network(choices: Choices, task: Task | TaskSpec) -> Any:
    """The choices as the plan of a network (`nas.networks.plan.Network`).

    Raises: NasError where the images are too small for the stem and three downsamplings.
    """
    from nas.networks.plan import Network, Stage

    stride, side = int(choices["stem.stride"]), min(task.input[1:])
    if choices["downsample.kind"] == "patch" and side < 8 * stride:
        raise NasError(
            f"images of {side} pixels vanish: stem stride {stride}, then halved three times",
            f"use images of {8 * stride} pixels or more, or a smaller stem.stride",
        )
    _, stages = staged(choices, 4)
    skeleton: dict[str, Any] = {
        "stem": choices["stem.kind"],
        "stride": stride,
        "stem_norm": choices.get("stem.norm", "batch"),
        "block": choices["block"],
        "downsample": choices["downsample.kind"],
        "downsample_norm": choices.get("downsample.norm", "batch"),
        "head": choices["head.kind"],
        "head_norm": choices.get("head.norm", "layer"),
        "layer_scale": choices.get("layer_scale", False),
        "drop_path": choices["drop_path"],
        "density": choices["density"],
    }
    return Network(
        task.input[0], task.outputs, tuple(Stage(**stage) for stage in stages), **skeleton
    )


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, H, W) -> (B, outputs)` that the choices name."""
    from nas.networks.skeleton import LargeKernelNet

    return LargeKernelNet(network(choices, task))


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a deeper and wider network; its kernels stay."""
    return scaled(choices, rule)


space = SearchSpace("largekernel", decisions, build, presets=PRESETS, scale=scale)
