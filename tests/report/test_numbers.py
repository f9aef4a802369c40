import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.measurement import Measurement
from nas.report import numbers


def measured(value: float, half: float, unit: str = "ms", source: str = "measured") -> Measurement:
    return Measurement("x", value, unit, value - half, value + half, half / 2, 9, source, "table")


@given(st.floats(1e-6, 1e6))
def test_a_spread_shows_two_digits(spread: float) -> None:
    shown = float(f"{spread:.{numbers.decimals(spread)}f}")
    assert abs(shown - spread) <= max(0.5, 0.051 * spread)


@given(st.floats(-1e15, 1e15))
def test_plain_numbers_keep_four_digits(value: float) -> None:
    text = numbers.plain(value)
    number, _, letter = text.partition(" ")
    scale = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[letter]
    assert math.isclose(float(number) * scale, value, rel_tol=6e-4, abs_tol=1e-300)


@pytest.mark.parametrize(
    ("made", "shown", "narrow"),
    [
        (measured(0.4213, 0.0123), "0.421 [0.409, 0.434] ms", "0.421 ±0.012 ms"),
        (measured(1234.0, 56.0), "1234 [1178, 1290] ms", "1234 ±56 ms"),
        (measured(2.5e7, 1e6, "MACs"), "25 M [24 M, 26 M]", "25 M ±1 M"),
        (measured(3.0, 0.0, "10^6 bytes"), "3 MB", "3 MB"),
        (measured(3.0, 0.3, source="predicted"), "~3.00 [2.70, 3.30] ms", "~3.00 ±0.30 ms"),
        (
            Measurement("x", 0.08, "ms", 0.04, 0.16, 0.02, 0, "predicted", "datasheet"),
            "~0.080 [0.040, 0.160] ms",
            "~0.080 ×÷2 ms",
        ),
    ],
)
def test_intervals(made: Measurement, shown: str, narrow: str) -> None:
    assert numbers.interval(made) == shown
    assert numbers.compact(made) == narrow


def test_a_probability_below_one_is_never_shown_as_certainty() -> None:
    assert numbers.percent(0.9999) == ">99 %"
    assert numbers.percent(0.0001) == "<1 %"
    assert numbers.percent(0.0) == "0 %"
