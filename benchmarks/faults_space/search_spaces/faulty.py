"""Small networks, some of which cannot be measured: the space that `benchmarks/faults.py` searches.

The exported file of a candidate that hangs asks for minutes of matrix products in one call, that of
a greedy one for more memory than any machine has. In torch both are sound: they are built, trained
on a few images and counted like any other, and only the measuring process meets the fault.
"""

from __future__ import annotations

from typing import Any

from nas import Choice, SearchSpace

STEPS, SIDE = 8, 8192  # products, and the side of what they multiply: 1.1 TFLOP each
WIDE = 2**21


def build(choices: Any, task: Any) -> Any:
    """A stack of convolutions, and the fault after it."""
    import torch
    from torch import nn

    class Hanging(nn.Module):
        """(B, C) to (B, C) by way of minutes of matrix products, where exported."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.compiler.is_exporting():
                return x
            square = torch.sigmoid(x.mean(1)).reshape(-1, 1, 1).expand(-1, SIDE, SIDE)
            for _ in range(STEPS):
                square = (square @ square).clamp(0.0, 1.0)
            return x + square.mean((1, 2)).reshape(-1, 1)

    class Greedy(nn.Module):
        """(B, C) to (B, C) by way of 16 terabytes, where exported."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.compiler.is_exporting():
                return x
            huge = x.mean(1).reshape(-1, 1, 1).expand(-1, WIDE, WIDE) * 2.0
            return x + huge.cos().mean((1, 2)).reshape(-1, 1)

    width = int(choices["width"])
    layers: list[nn.Module] = [nn.Conv2d(task.input[0], width, 3, stride=2, padding=1), nn.ReLU()]
    for _ in range(int(choices["depth"])):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += {"hangs": [Hanging()], "greedy": [Greedy()], "none": []}[str(choices["fault"])]
    return nn.Sequential(*layers, nn.Linear(width, task.outputs))


space = SearchSpace(
    "faulty",
    [
        Choice("width", [8, 16, 24, 32, 48]),
        Choice("depth", [1, 2, 3]),
        Choice("fault", ["none", "hangs", "greedy"]),
    ],
    build,
    presets={
        "hanging": {"width": 8, "depth": 1, "fault": "hangs"},
        "greedy": {"width": 8, "depth": 1, "fault": "greedy"},
        "sound": {"width": 8, "depth": 1, "fault": "none"},
    },
)
