"""Vision transformers, plain and in stages: ViT, PVT, ViT-ResNAS and HaloNet's attention.

One to four stages with halved maps between them. Each stage chooses its depth, width, heads, MLP
and what its tokens attend to: all others, a reduced map, or their surroundings. The published
networks are presets; `nas.networks.hiervit` has the structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas import Choice, NasError, SearchSpace
from nas.core.architecture import Choices, Value
from nas.core.decision import Decision
from nas.core.scaling import Scaling
from nas.core.staged import scaled, square_side, staged
from nas.core.task import Task, TaskSpec
from nas.networks.published.hiervit import PRESETS

STAGES = 4


def decisions(task: TaskSpec) -> list[Decision]:
    """Every decision for a task; the ranges grow with the input.

    Raises: NasError for what are no square images whose side is a multiple of 8.
    """
    side = square_side(task, "hiervit", 8)
    return [*_network(side), *(decision for i in range(STAGES) for decision in _stage(i, side))]


def patches(side: int) -> list[int]:
    """Sides of the first stage's patches.

    >>> patches(32), patches(224)
    ([2, 4, 8], [4, 8, 14, 16])
    """
    listed = (2, 4, 8) if side <= 64 else (4, 8, 14, 16)
    return [p for p in listed if side % p == 0 and side // p >= 4]


def rows(side: int, patch: int) -> list[int]:
    """The sides of the maps that a first stage's patches lead to, halved while they are even.

    >>> rows(32, 4), rows(224, 14), rows(224, 16)
    ([8, 4, 2, 1], [16, 8, 4, 2], [14, 7])
    """
    found = [side // patch]
    while len(found) < STAGES and found[-1] % 2 == 0:
        found.append(found[-1] // 2)
    return found


def _network(side: int) -> Iterator[Decision]:
    """The decisions that all stages share."""
    deep: Mapping[Value, Sequence[Value]] = {
        p: list(range(1, len(rows(side, p)) + 1)) for p in patches(side)
    }
    yield Choice("patch", patches(side))
    yield Choice("stages", [1, 2, 3, 4], within={"patch": deep})
    steps = ["patch", "overlapping", "residual"]
    yield Choice("embedding", steps, when={"stages": [2, 3, 4]})
    yield Choice("positions", [True, False])
    joined: dict[str, Mapping[Value, Sequence[Value]]] = {
        "stages": {1: ["none", "first"]},
        "embedding": {
            "patch": ["none", "last"],
            "overlapping": ["none", "last"],
            "residual": ["none", "first"],
        },
    }
    yield Choice(
        "token",
        ["none", "first", "last"],
        within=joined,
    )
    yield Choice("depthwise", [False, True], when={"token": ["none"]})
    yield Choice("norms", ["last", "every"])
    yield Choice("norm", ["layer", "unified"])
    yield Choice("drop_path", [0.0, 0.1])


def _stage(i: int, side: int) -> Iterator[Decision]:
    """The decisions of stage `i`, the first being 0."""
    at, small = f"stages.{i}.", side <= 64
    exists: dict[str, list[Value]] = {"stages": list(range(i + 1, STAGES + 1))} if i else {}
    yield Choice(at + "depth", [1, 2, 3] if small else [2, 3, 4, 6, 12], when=exists)
    bases = (32, 48, 64) if small else (32, 48, 64, 96)
    yield Choice(at + "width", [base * (i + 1) for base in bases], when=exists)
    yield Choice(at + "heads", [1, 2, 4, 8], when=exists)
    yield Choice(at + "head", [16, 32] if small else [32, 48, 64], when=exists)
    yield Choice(at + "expansion", [2.0, 4.0, 8.0], when=exists)
    yield Choice(
        at + "attention",
        ["global", "reduced", "linear", "halo"],
        when=exists,
        within={"token": {token: ["global", "reduced"] for token in ("first", "last")}},
    )
    fitting: Mapping[Value, Sequence[Value]] = {
        p: [r for r in (2, 4, 8) if i < len(rows(side, p)) and rows(side, p)[i] % r == 0] or [1]
        for p in patches(side)
    }
    on = at + "attention"
    yield Choice(at + "reduction", [1, 2, 4, 8], when={on: ["reduced"]}, within={"patch": fitting})
    yield Choice(at + "block", [4, 7, 8], when={on: ["halo"]})
    yield Choice(at + "halo", [1, 2, 3], when={on: ["halo"]})


def build(choices: Choices, task: Task | TaskSpec) -> Any:
    """The torch module `(B, C, S, S) -> (B, outputs)` that the choices name.

    Raises: NasError where the image is too small for the patches and stages.
    """
    from nas.networks.hiervit import HierarchicalNet, TransformerNetwork, TransformerStage

    around, plans = staged(choices, int(choices["stages"]))
    side, patch = task.input[1], int(choices["patch"])
    if side % (patch * 2 ** (len(plans) - 1)):
        raise NasError(
            f"images of {side} pixels have no {len(plans)} stages of patches of {patch}",
            "choose fewer stages, or smaller patches",
        )
    stages = tuple(TransformerStage(**plan) for plan in plans)
    return HierarchicalNet(TransformerNetwork(task.input[0], side, task.outputs, stages, **around))


def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
    """The choices of a network of more blocks and wider ones; heads keep their number."""
    return scaled(choices, rule, (".width", ".head"))


space = SearchSpace("hiervit", decisions, build, presets=PRESETS, scale=scale)
