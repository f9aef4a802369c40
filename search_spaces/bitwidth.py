"""Bit-widths: the number format in which each part of any network is kept, and computed if it can.

The layers that multiply by weights are put into four sections of equal multiply-adds, in the order
in which they run, so that the early, the late or the wide ones in the middle can keep fp32. Whether
fewer bits are faster is not assumed: the file is timed. Depthwise convolutions have their own
decision, because an int8 kernel for large ones is often the slower one.

`weights` says how: `int8`, or fp32, by section; `mixed`, any format by section; `divided`, int8
kernels everywhere and an average number of bits that an allocator spreads over the layers. `method`
says when steps are chosen: after training (`ptq`), while training (`qat`), or while training for 8,
6, 4 and 2 bits at once (`switching`).
"""

from __future__ import annotations

from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.task import Task, TaskSpec

SECTIONS = range(4)
INT8, MIXED, DIVIDED = {"weights": ["int8"]}, {"weights": ["mixed"]}, {"weights": ["divided"]}
ANY = {"weights": ["int8", "mixed", "divided"]}
FORMATS = ["int8", "fp32", "int8-dynamic", "int8-weights", "int4-weights", "fp16", "bf16", "fp8",
           "int6", "int4", "int2"]  # fmt: skip


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Gives layers the formats that the choices say; nothing where the weights stay fp32."""
    from nas.transforms.quantize.plan import Plan
    from nas.transforms.quantize.transform import quantizing
    from nas.transforms.stages import Transform

    kind = choices["weights"]
    if kind == "fp32":
        return Transform("bitwidth")
    name = {"int8": "section", "mixed": "format"}.get(str(kind))
    formats = ["int8" if name is None else str(choices[f"{name}.{i}"]) for i in SECTIONS]
    return quantizing(
        Plan(
            formats=tuple(formats),
            depthwise=choices["depthwise"] == "int8",
            ends=choices["ends"] == "int8",
            calibration=str(choices["calibration"]),
            method=str(choices.get("method", "ptq")),  # studies of before know no other
            average=float(choices["average"]) if kind == "divided" else None,
            allocator=str(choices.get("allocator", "hessian")),
        )
    )


def trained(choices: Choices) -> Choices:
    """What a training depends on: nothing where steps are chosen after it.

    A training for all bits at once does not depend on how many remain.
    """
    method = choices.get("method", "ptq")
    if choices["weights"] == "fp32" or method == "ptq":
        return {}
    kept = {n: v for n, v in choices.items() if n not in ("calibration", "average", "allocator")}
    if method == "switching":
        kept = {n: "int8" if v in ("int6", "int4", "int2") else v for n, v in kept.items()}
    return kept


axis = Axis(
    "bitwidth",
    [
        Choice("weights", ["fp32", "int8", "mixed", "divided"]),
        *(Choice(f"section.{i}", ["int8", "fp32"], when=INT8) for i in SECTIONS),
        *(Choice(f"format.{i}", FORMATS, when=MIXED) for i in SECTIONS),
        Choice("average", [3, 4, 5, 6, 7], when=DIVIDED),
        Choice("allocator", ["hessian", "adapt"], when=DIVIDED),
        Choice("depthwise", ["fp32", "int8"], when=ANY),
        Choice("ends", ["int8", "fp32"], when=ANY),
        Choice("calibration", ["minmax", "percentile"], when=ANY),
        Choice("method", ["ptq", "qat", "switching"], when=ANY),
    ],
    transform,
    trained,
)
