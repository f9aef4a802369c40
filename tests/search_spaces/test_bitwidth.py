"""The axis reads the choices of studies of before, and says what a training depends on."""

from __future__ import annotations

from typing import Any

import pytest

from nas.catalog import load_axis
from nas.core.task import TaskSpec
from nas.transforms.stages import Transform

TASK = TaskSpec("digits", (3, 16, 16), 10)
OLD: dict[str, Any] = {
    "weights": "int8", "section.0": "int8", "section.1": "fp32", "section.2": "int8",
    "section.3": "int8", "depthwise": "fp32", "ends": "int8", "calibration": "percentile",
}  # fmt: skip
STATIC: dict[str, Any] = {"depthwise": "int8", "ends": "int8", "calibration": "minmax"}


def mixed(method: str, **formats: str) -> dict[str, Any]:
    named = {f"format.{i}": formats.get(f"f{i}", "int8") for i in range(4)}
    return {"weights": "mixed", **named, **STATIC, "method": method}


def stages(choices: dict[str, Any]) -> list[str]:
    found = load_axis("bitwidth").transform(choices, TASK)
    assert isinstance(found, Transform)
    return [n for n in ("prepare", "during", "finish", "write") if getattr(found, n) is not None]


def test_studies_of_before_are_read_as_they_were_meant() -> None:
    assert stages(OLD) == ["write"]
    assert stages({"weights": "fp32"}) == []


def test_what_is_learned_takes_part_in_the_training() -> None:
    everything = ["prepare", "during", "finish", "write"]
    assert stages(mixed("qat")) == stages(mixed("switching")) == everything
    divided = {"weights": "divided", "average": 4, "allocator": "adapt", **STATIC, "method": "ptq"}
    assert stages(divided) == ["finish", "write"]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({"weights": "fp32"}, OLD, True),
        (mixed("ptq"), mixed("ptq", f1="int4", f2="fp32"), True),
        (mixed("qat"), mixed("qat", f1="int4"), False),
        (mixed("qat"), {**mixed("qat"), "calibration": "percentile"}, True),
        (mixed("switching"), mixed("switching", f1="int4", f3="int2"), True),
        (mixed("switching"), mixed("switching", f1="int8-dynamic"), False),
        (mixed("switching"), mixed("qat"), False),
        (mixed("qat"), {**mixed("qat"), "depthwise": "fp32"}, False),
    ],
)
def test_networks_share_a_training_where_none_could_tell_them_apart(
    one: dict[str, Any], other: dict[str, Any], shared: bool
) -> None:
    trained = load_axis("bitwidth").trained
    assert trained is not None
    assert (trained(one) == trained(other)) == shared
