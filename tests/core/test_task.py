"""A task at work and as data say the same."""

import json

from nas.core.task import Task, TaskSpec


def test_the_spec_of_a_task_says_what_it_is() -> None:
    task = Task(
        (3, 32, 32), 7, batches=lambda split, seed: [], loss=lambda o, t: 0.0,
        score=lambda o, t: 0.0, score_name="iou", goal="maximize", score_unit="%",
        examples=900, digest="abc",
    )  # fmt: skip
    spec = task.spec("folder:birds")
    assert spec == TaskSpec("folder:birds", (3, 32, 32), 7, "iou", "%", "maximize", 900, "abc")


def test_json_round_trip() -> None:
    spec = TaskSpec("digits", (1, 8, 8), 10, digest="d")
    again = TaskSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and again.input == (1, 8, 8)


def test_a_task_of_several_parts() -> None:
    task = Task((3, 8, 8), 5, lambda s, n: [], lambda o, t: 0.0, lambda o, t: 0.0, parts=(3, 2))
    spec = task.spec("mine:both")
    assert spec.parts == (3, 2)
    assert TaskSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    old = {k: v for k, v in spec.to_json().items() if k != "parts"}
    assert TaskSpec.from_json(old).parts == ()
