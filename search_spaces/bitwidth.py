"""Bit-widths: which parts of any network run in 8-bit integers.

The layers that multiply by weights are put into four sections of equal multiply-adds, in the order
in which they run, so that the early, the late or the wide ones in the middle can keep fp32. Whether
8 bits are faster is not assumed: the file is timed. Depthwise convolutions have their own decision,
because an int8 kernel for large ones is often the slower one.
"""

from __future__ import annotations

from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.task import Task, TaskSpec

SECTIONS = range(4)
INT8 = {"weights": ["int8"]}


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Quantizes what the choices say; nothing where the weights stay fp32."""
    from nas.transforms.quantize import Plan, quantizing
    from nas.transforms.stages import Transform

    if choices["weights"] == "fp32":
        return Transform("bitwidth")
    return quantizing(
        Plan(
            sections=tuple(choices[f"section.{i}"] == "int8" for i in SECTIONS),
            depthwise=choices["depthwise"] == "int8",
            ends=choices["ends"] == "int8",
            calibration=str(choices["calibration"]),
        )
    )


axis = Axis(
    "bitwidth",
    [
        Choice("weights", ["fp32", "int8"]),
        *(Choice(f"section.{i}", ["int8", "fp32"], when=INT8) for i in SECTIONS),
        Choice("depthwise", ["fp32", "int8"], when=INT8),
        Choice("ends", ["int8", "fp32"], when=INT8),
        Choice("calibration", ["minmax", "percentile"], when=INT8),
    ],
    transform,
)
