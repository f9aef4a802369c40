"""What the spaces share: images, choices by stage, choices scaled."""

from __future__ import annotations

import pytest

from nas.core.errors import NasError
from nas.core.scaling import Scaling
from nas.core.staged import image_side, scaled, square_side, staged
from nas.core.task import TaskSpec


def images(*shape: int) -> TaskSpec:
    return TaskSpec("images", shape, 10)


def test_image_side_is_the_shorter_one() -> None:
    assert image_side(images(3, 32, 24), "resnet") == 24


@pytest.mark.parametrize("shape", [(10,), (3, 7, 32), (3, 32)])
def test_what_is_no_image_is_refused_by_the_name_of_the_space(shape: tuple[int, ...]) -> None:
    with pytest.raises(NasError, match="space 'resnet' needs images"):
        image_side(images(*shape), "resnet")


@pytest.mark.parametrize("shape", [(3, 32, 24), (3, 24, 24), (32, 32)])
def test_square_side_refuses_what_is_not_square_or_no_multiple(shape: tuple[int, ...]) -> None:
    assert square_side(images(3, 32, 32), "mixer", 16) == 32
    with pytest.raises(NasError, match="a multiple of 16"):
        square_side(images(*shape), "mixer", 16)


def test_staged_keeps_the_names_that_begin_so() -> None:
    choices = {
        "skeleton": "meta",
        "meta.patch": 2,
        "meta.stages.0.width": 16,
        "meta.stages.1.depth": 3,
        "other.stages.0.width": 99,
    }
    assert staged(choices, 2, "meta.") == ({"patch": 2}, [{"width": 16}, {"depth": 3}])


def test_scaled_multiplies_depths_and_widths_and_nothing_else() -> None:
    rule = Scaling("twice", depth=2.0, width=1.5, group=1.0, resolution=1.0)
    choices = {"stages.0.depth": 2, "stages.0.width": 16, "stem.width": 0, "kernel": 7}
    assert scaled(choices, rule) == {
        "stages.0.depth": 4,
        "stages.0.width": 24,
        "stem.width": 0,
        "kernel": 7,
    }
    assert scaled(choices, rule, multiple=16)["stages.0.width"] == 32
