"""Sparsity: channels removed from any network, or weights at zero.

Removed channels make the file smaller and quicker on every device. Zeros do neither under a dense
kernel: 2:4 has kernels on some GPUs, which the device's profile says; elsewhere zeros are stored
and said to be. Nothing is assumed either way: the file is timed.
"""

from __future__ import annotations

from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.task import Task, TaskSpec

CHANNELS = {"pattern": ["channels"]}
WEIGHTS = {"pattern": ["2:4", "unstructured"]}
SPREAD = {"pattern": ["channels", "unstructured"]}
BY_WEIGHT = ["uniform", "erk", "global", "rd"]
FROM_DENSE = ["start", "oneshot", "gradual", "acdc"]


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Prunes what the choices say; nothing where the network stays dense."""
    from nas.transforms.sparsify import Plan, sparsifying
    from nas.transforms.stages import Transform

    if choices["pattern"] == "dense":
        return Transform("sparsity")
    return sparsifying(
        Plan(
            pattern=str(choices["pattern"]),
            removed=float(choices.get("removed", choices.get("zeros", 0.5))),
            allocation=str(choices.get("allocation", "uniform")),
            timing=str(choices["schedule"]),
            exploration=float(choices.get("exploration", 0.0)),
            ends=choices.get("ends", "dense") == "sparse",
        )
    )


axis = Axis(
    "sparsity",
    [
        Choice("pattern", ["dense", "channels", "2:4", "unstructured"]),
        Choice("removed", [0.25, 0.5, 0.75], when=CHANNELS),
        Choice("zeros", [0.5, 0.8, 0.9, 0.95, 0.98], when={"pattern": ["unstructured"]}),
        Choice(
            "allocation", [*BY_WEIGHT, "precrop"], when=SPREAD,
            within={"pattern": {"unstructured": BY_WEIGHT}},
        ),
        Choice(
            "schedule", [*FROM_DENSE, "dst"], when={"pattern": ["channels", "2:4", "unstructured"]},
            within={
                "pattern": {"channels": FROM_DENSE, "2:4": FROM_DENSE},
                "allocation": {"precrop": ["start"]},
            },
        ),
        Choice("exploration", [0.0, 0.1, 1.0], when={"schedule": ["dst"]}),
        Choice("ends", ["dense", "sparse"], when=WEIGHTS),
    ],
    transform,
)  # fmt: skip
