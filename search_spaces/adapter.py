"""Adapters: what little of a frozen pretrained network is trained for a task.

The network is frozen, batch norms' statistics too, but for its head, which is the last linear layer
or convolution before the output and begins anew: the pretrained one names other classes. Placement
is by quarters of the multiply-adds, in the order in which they run, and by what a layer mixes:
places (attention, convolutions) or channels. So any network has the same decisions.

What is a function of the weights alone is merged and costs nothing when deployed (LoRA, SSF,
DiffFit, linear adapters, SaRA, pruning adapters, which also make the network smaller); bottlenecks,
random features and prompts stay, and are timed. Early heads come with any method of which the
network keeps its form; the deployed network is left at one fixed exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.decision import Decision
from nas.core.task import Task, TaskSpec

SECTIONS = range(4)
MATRICES = ("lora", "ssf", "linear", "sara")
ENDS = ("difffit", "bottleneck", "snnk", "polyhistor")
RANKED = ("lora", "bottleneck", "snnk", "pruning", "polyhistor")
EARLY = ("head", "lora", "ssf", "difffit", "linear", "bottleneck", "snnk", "sara")
DROPPED = ("lora", "bottleneck")  # adapters with channels or ranks that a step can do without
EXITS = {"end": 4, "three quarters": 3, "half": 2, "quarter": 1}


def decisions(task: TaskSpec) -> Sequence[Decision]:
    """Polyhistor where the task has several parts; all else for any task."""
    several = ["polyhistor"] if len(task.parts) > 1 else []
    methods = ["none", "head", *MATRICES, "difffit", "bottleneck", "snnk", "prompt", "pruning"]
    placed = [*MATRICES, *ENDS, "prompt", "pruning"]
    placed = [m for m in placed if m in methods or m in several]
    ranked = [m for m in RANKED if m in methods or m in several]
    lora, linear, sara = {"method": ["lora"]}, {"method": ["linear"]}, {"method": ["sara"]}
    early = {"method": list(EARLY)}
    return [
        Choice("method", [*methods, *several]),
        *(Choice(f"section.{i}", ["adapted", "frozen"], when={"method": placed}) for i in SECTIONS),
        Choice("mixing", ["all", "queries", "none"], when={"method": list(MATRICES)}),
        Choice("channels", ["all", "none"], when={"method": list(MATRICES)}),
        Choice("norms", ["all", "none"], when={"method": ["ssf"]}),
        Choice("rank", [1, 2, 4, 8, 16, 32], when={"method": ranked}),
        Choice("scale", [0.5, 1.0, 2.0, 4.0], when=lora),
        Choice("rslora", [False, True], when=lora),
        Choice("where", ["both", "before", "behind"], when=linear),
        Choice("ratio", [0.125, 0.25, 0.5], when=linear),
        Choice("form", ["serial", "parallel"], when={"method": ["bottleneck"]}),
        Choice("prompts", [1, 5, 10, 20], when={"method": ["prompt"]}),
        Choice("depth", ["deep", "shallow"], when={"method": ["prompt"]}),
        Choice("share", [0.05, 0.1, 0.2], when=sara),
        Choice("low_rank", [False, True], when=sara),
        Choice("density", [0.3, 0.5, 0.75], when={"method": ["pruning"]}),
        Choice("rate", [1, 3, 10], when={"method": [*methods[1:], *several]}),
        Choice("heads", [0, 1, 3], when=early),
        Choice(
            "leave", list(EXITS), when={"heads": [1, 3]}, within={"heads": {1: ["end", "half"]}}
        ),
        Choice("dropped", [0.0, 0.1, 0.3], when={"heads": [1, 3], "method": list(DROPPED)}),
        Choice("masked", [0.0, 0.3], when={"heads": [1, 3], "method": list(EARLY[1:])}),
    ]


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Freezes and adapts as the choices say; with `none` the whole network is trained."""
    from nas.transforms.stages import Transform

    if choices["method"] == "none":
        return Transform("adapter")
    from nas.transforms.adapt.adapting import adapting
    from nas.transforms.adapt.plan import Plan

    given: dict[str, Any] = {
        "sections": tuple(choices.get(f"section.{i}", "adapted") == "adapted" for i in SECTIONS),
        "channels": choices.get("channels", "all") == "all",
        "norms": choices.get("norms", "all") == "all",
        "deep": choices.get("depth", "deep") == "deep",
        "leave": EXITS[str(choices.get("leave", "end"))],
        "alpha": float(choices.get("scale", 1.0)) * int(choices.get("rank", 1)),
    }
    names = {"rslora": "stable", "low_rank": "penalty"}
    same = ("mixing", "rank", "where", "ratio", "form", "prompts", "share", "density", "rate",
            "heads", "dropped", "masked", "rslora", "low_rank")  # fmt: skip
    given |= {names.get(n, n): choices[n] for n in same if n in choices}
    return adapting(Plan(str(choices["method"]), **given))


axis = Axis("adapter", decisions, transform)
