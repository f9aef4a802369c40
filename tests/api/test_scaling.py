"""Scaling a stored point: what it becomes, and the space of one network that it is written as."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rich.console import Console

from nas import NasError, api
from nas.catalog import load_space
from nas.hardware.counting import count
from nas.report.scaled import scale_table
from nas.store.store import Store

SPACE = '''"""A toy that is built."""
from nas import Choice, Integer, SearchSpace


def build(choices, task):
    from torch import nn

    width, kernel = choices["width"], choices["kernel"]
    layers = [nn.Conv2d(task.input[0], width, 1)]
    for _ in range(choices["depth"]):
        layers.append(nn.Conv2d(width, width, kernel, padding=kernel // 2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, task.outputs))


def scale(choices, rule):
    return {**choices, "depth": rule.deeper(choices["depth"]),
            "width": rule.wider(choices["width"])}


space = SearchSpace("toy", [Choice("kernel", [3, 5, 7, 9]), Integer("depth", 1, 6),
                            Choice("width", [16, 32, 64, 128]),
                            Choice("dilation", [1, 2], when={"kernel": [3]})], build, scale=scale)
'''


@pytest.fixture
def known(toy: Any) -> Any:
    (toy.folder / "search_spaces").mkdir()
    (toy.folder / "search_spaces" / "toy.py").write_text(SPACE)
    return toy


def test_a_point_costs_about_what_was_asked_for(known: Any) -> None:
    with Store(known.url, read_only=True) as store:
        spec, trial = store.spec("toy"), store.trials("toy")[0]
    found = api.scale("toy", trial.number, 8, "dwr", storage=known.url)
    before, choices = trial.architecture.choices, found["choices"]
    assert choices["kernel"] == before["kernel"]
    assert choices["width"] % 8 == 0
    assert choices["width"] / before["width"] == pytest.approx(8**0.4, rel=0.1)
    macs = found["counts"]["macs"]
    assert found["target_macs"] == 8 * macs["before"]
    assert macs["times"] == macs["after"] / macs["before"] == pytest.approx(8, rel=0.35)
    side = spec.task.input[1]
    assert found["resolution"] == [[side, side], [round(side * 8**0.05 / 4) * 4] * 2]
    assert set(found["changed"]) <= {"depth", "width"}
    console = Console(width=100, record=True, file=None)
    with console.capture() as shown:
        console.print(scale_table(found))
    assert f"{choices['width']}" in shown.get()
    assert "--trials 1" in shown.get()


def test_it_is_written_as_a_space_of_one_network(known: Any) -> None:
    found = api.scale("toy", 0, 4, "compound", name="large_toy", storage=known.url)
    assert found["written"] == "search_spaces/large_toy.py"
    with Store(known.url, read_only=True) as store:
        task = store.spec("toy").task
    space = load_space("large_toy").at(task)
    assert space.size == 1
    assert dict(space.preset("scaled").choices) == found["choices"]
    larger = (task.input[0], *found["resolution"][1])
    with torch.device("meta"):
        counts = count(space.build(space.preset("scaled").choices, task), larger)
    assert counts.macs == found["counts"]["macs"]["after"]
    assert found["train"][0].startswith("nas search --space large_toy ")
    with pytest.raises(NasError, match="exists"):
        api.scale("toy", 0, 4, name="large_toy", storage=known.url)


@pytest.mark.parametrize("name", ["../x", "a b", "", "x.y"])
def test_names_that_no_space_can_have(name: str, known: Any) -> None:
    with pytest.raises(NasError, match="cannot be a space's name"):
        api.scale("toy", 0, 4, name=name, storage=known.url)


def test_a_space_that_does_not_say_how(known: Any) -> None:
    text = SPACE.replace(", scale=scale", "")
    (known.folder / "search_spaces" / "toy.py").write_text(text)
    with pytest.raises(NasError, match="does not say how it scales"):
        api.scale("toy", 0, 8, storage=known.url)
