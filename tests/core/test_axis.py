from __future__ import annotations

import numpy as np
import pytest

from nas.core.axis import Axis, join
from nas.core.decision import Choice
from nas.core.errors import NasError
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec

TASK = TaskSpec("t", (3, 8, 8), 10)
SPACE = SearchSpace(
    "toy",
    [Choice("kernel", [3, 7]), Choice("dilation", [1, 2], when={"kernel": [3]})],
    build=lambda choices, task: ("built", dict(choices)),
    presets={"small": {"kernel": 7}},
)
BITS = Axis(
    "bits",
    [
        Choice("weights", [32, 8]),
        Choice("ends", ["int8", "fp32"], when={"weights": [8]}),
        Choice("range", [1, 2], within={"weights": {32: [1]}}),
    ],
    transform=lambda choices, task: ("bits", dict(choices)),
)
SPARSE = Axis(
    "sparse",
    lambda task: [Choice("share", [0.0, 0.5][: task.outputs])],
    transform=lambda choices, task: ("sparse", dict(choices)),
)


def test_one_point_has_the_decisions_of_all() -> None:
    joint = join(SPACE, [BITS, SPARSE]).at(TASK)
    assert joint.name == "toy+bits+sparse"
    assert [d.name for d in joint.listed] == [
        "kernel", "dilation", "bits.weights", "bits.ends", "bits.range", "sparse.share",
    ]  # fmt: skip
    # 3 networks; fp32 with one range in effect, or int8 with 2 ends and 2 ranges; 2 shares
    assert joint.size == 3 * (1 + 2 * 2) * 2
    point = joint.architecture({
        "kernel": 3, "dilation": 2, "bits.weights": 8, "bits.ends": "fp32", "bits.range": 2,
        "sparse.share": 0.5,
    })  # fmt: skip
    assert joint.build(point.choices, TASK) == ("built", {"kernel": 3, "dilation": 2})
    assert joint.transforms(point.choices, TASK) == [
        ("bits", {"weights": 8, "ends": "fp32", "range": 2}),
        ("sparse", {"share": 0.5}),
    ]


def test_conditions_hold_inside_an_axis() -> None:
    joint = join(SPACE, [BITS]).at(TASK)
    rng = np.random.default_rng(0)
    for _ in range(200):
        choices = joint.sample(rng).choices
        assert ("bits.ends" in choices) == (choices["bits.weights"] == 8)
        assert choices["bits.weights"] == 8 or choices["bits.range"] == 1


def test_presets_and_points_of_the_space_transform_nothing() -> None:
    joint = join(SPACE, [BITS, SPARSE]).at(TASK)
    assert joint.preset("small") == joint.repair({"kernel": 7})
    assert dict(joint.preset("small").choices) == {
        "kernel": 7, "bits.weights": 32, "bits.range": 1, "sparse.share": 0.0,
    }  # fmt: skip


def test_without_axes_a_space_is_itself() -> None:
    assert join(SPACE, []) is SPACE
    assert list(SPACE.transforms({"kernel": 3}, TASK)) == []


def test_what_cannot_be_joined_is_said() -> None:
    with pytest.raises(NasError, match="axis 'bits' is named twice"):
        join(SPACE, [BITS, BITS])
    clash = SearchSpace("own", [Choice("bits.depth", [1])], build=lambda choices, task: None)
    with pytest.raises(NasError, match=r"'bits\.depth', as the axis has"):
        join(clash, [BITS]).at(TASK)


def test_what_a_training_depends_on_is_each_axiss_own_say() -> None:
    def build(choices: object, task: object) -> None:
        return None

    base = SearchSpace("plain", [Choice("kernel", [3, 7])], build)
    late = Axis("late", [Choice("bits", [32, 8]), Choice("method", ["after", "while"])],
                transform=build,
                trained=lambda own: own if own["method"] == "while" else {})  # fmt: skip
    early = Axis("early", [Choice("share", [0, 1])], transform=build)
    joint = join(base, [early, late])
    choices = {"kernel": 7, "early.share": 1, "late.bits": 8, "late.method": "after"}
    assert joint.trained(choices) == {"kernel": 7, "early.share": 1}
    assert joint.trained({**choices, "late.method": "while"}) == {**choices, "late.method": "while"}
    assert base.trained(choices) == choices
