"""Scaling rules against the formulas and the networks that their authors published."""

from __future__ import annotations

import math

import pytest

from nas import NasError
from nas.core.scaling import Scaling, nearest, rounded_group, rounded_width, scaling


@pytest.mark.parametrize("factor", [0.25, 2, 8, 100])
@pytest.mark.parametrize("rule", ["dwr", "compound", "resnet-rs"])
def test_the_factors_multiply_to_the_factor(rule: str, factor: float) -> None:
    found = scaling(rule, factor)
    assert found.depth * found.width**2 * found.resolution**2 == pytest.approx(factor)
    short = scaling(rule, factor, epochs=100)
    assert short.depth * short.width**2 * short.resolution**2 == pytest.approx(factor)


def test_fast_scaling_has_the_published_exponents() -> None:
    found = scaling("dwr", 16)
    exponents = [math.log(f, 16) for f in (found.depth, found.width, found.group, found.resolution)]
    assert exponents == pytest.approx([0.1, 0.4, 0.4, 0.05])
    activations = found.depth * found.width * found.resolution**2
    assert math.log(activations, 16) == pytest.approx(0.6)


def test_compound_scaling_has_the_published_base() -> None:
    found = scaling("compound", 1.2 * 1.1**2 * 1.15**2)
    assert (found.depth, found.width, found.resolution) == pytest.approx((1.2, 1.1, 1.15))
    # EfficientNet-B0 to B2 (1.1 and 1.2 by its authors): every depth and width of the paper
    assert [found.deeper(d) for d in (1, 2, 2, 3, 3, 4, 1)] == [2, 3, 3, 4, 4, 5, 2]
    widths = [found.wider(w) for w in (16, 24, 40, 80, 112, 192, 320)]
    assert widths == [16, 24, 48, 88, 120, 208, 352]


def test_revisited_networks_deepen_for_long_trainings_and_widen_for_short_ones() -> None:
    long, short = scaling("resnet-rs", 28, epochs=350), scaling("resnet-rs", 28, epochs=100)
    assert (long.width, short.depth) == (1, 1)
    assert short.width == pytest.approx(28**0.3)
    # from RS-50 at 160 pixels, 28 times its MACs: RS-420 is at 320, with 8.7 times the blocks
    assert long.larger(160) == 320
    assert 6 < long.depth < 9
    assert long.larger(160) / 160 < scaling("compound", 28).resolution


def test_roundings() -> None:
    assert [nearest(w, 8) for w in (1, 11, 12, 20, 90)] == [8, 8, 16, 24, 88]
    assert [rounded_width(w) for w in (35.2, 44, 12.1)] == [32, 48, 16]
    assert rounded_width(1, least=32) == 32
    assert [rounded_group(g) for g in (0.4, 1.7, 2.6, 4.9, 11, 90)] == [1, 2, 4, 4, 8, 88]
    rule = scaling("dwr", 8)
    assert rule.wider(96, group=40) % 40 == 0
    assert (rule.grouped(1), rule.deeper(1), rule.larger(224)) == (1, 1, 248)
    assert scaling("compound", 8).grouped(16) == 16


def test_small_images_grow_in_steps_of_a_quarter_and_of_four_pixels_at_least() -> None:
    rule = Scaling("own", 1, 1, 1, 1.3, step=32)
    assert [rule.larger(side) for side in (8, 20, 64, 160)] == [12, 25, 80, 224]


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan])
def test_no_such_factor(factor: float) -> None:
    with pytest.raises(NasError, match="cannot cost"):
        scaling("dwr", factor)


def test_no_such_rule() -> None:
    with pytest.raises(NasError, match="no scaling rule named 'dWr'"):
        scaling("dWr", 2)
