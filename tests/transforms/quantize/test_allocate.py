"""Bits divided among layers: exact on small cases, and the right way round."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nas.transforms.quantize.allocate import Weights, by_hessian, by_precision, word_length
from nas.transforms.quantize.codes import BITS, codes, double_rounded, widest_steps

RNG = np.random.default_rng(0)


def layer(rows: int, n: int, trace: float = 1.0, spread: float = 1.0) -> Weights:
    return Weights((spread * RNG.standard_normal((rows, n))).astype(np.float32), trace)


def test_an_option_costs_the_squared_error_of_its_codes() -> None:
    one = layer(4, 30)
    steps = widest_steps(one.rows)
    kept = codes(one.rows, steps)
    for bits, error in zip(one.options, one.error, strict=True):
        left = double_rounded(kept, bits) if bits < BITS else kept
        values = left * steps[:, None] * 2 ** (BITS - bits)
        assert error == pytest.approx(float(np.square(one.rows - values).sum()))


@pytest.mark.parametrize("average", [2.5, 4.0, 5.5, 7.9])
def test_no_other_division_of_the_budget_does_less_harm(average: float) -> None:
    layers = [layer(4, 16, 3.0), layer(8, 32, 0.5), layer(2, 64, 10.0)]
    harm = [x.trace / x.rows.size * x.error for x in layers]
    sizes = [x.rows.size for x in layers]

    def total(chosen: tuple[int, ...]) -> float:
        return sum(h[x.options.index(b)] for h, x, b in zip(harm, layers, chosen, strict=True))

    allowed = [
        chosen
        for chosen in product((8, 6, 4, 2), repeat=3)
        if np.dot(chosen, sizes) <= average * sum(sizes)
    ]
    found = tuple(by_hessian(layers, average))
    assert found in allowed
    assert total(found) <= min(map(total, allowed)) * (1 + 1e-3)  # the budget's grid is 1 in 4096


def test_a_higher_trace_never_means_fewer_bits() -> None:
    """The algorithm as printed gives sensitive layers the fewest; this is its correction."""
    rows = RNG.standard_normal((8, 32)).astype(np.float32)
    for average in (3.0, 4.0, 5.0, 6.0):
        traces = RNG.uniform(0.1, 100, 6)
        bits = by_hessian([Weights(rows, float(t)) for t in traces], average)
        order = np.argsort(traces)
        assert (np.diff(np.array(bits)[order]) >= 0).all(), (traces, bits)


def test_more_budget_never_does_more_harm_and_all_of_it_keeps_eight() -> None:
    layers = [layer(4, 16, t) for t in (1.0, 5.0, 0.2)]
    harms = []
    for average in (2.0, 3.0, 4.0, 6.0, 8.0):
        bits = by_hessian(layers, average)
        harms.append(sum(x.trace * x.error[x.options.index(b)]
                         for x, b in zip(layers, bits, strict=True)))  # fmt: skip
    assert harms == sorted(harms, reverse=True) and bits == [8, 8, 8]
    with pytest.raises(ValueError, match="at least 2"):
        by_hessian(layers, 1.5)


@pytest.mark.parametrize("divide", [by_hessian, by_precision])
def test_the_least_average_is_not_refused_for_its_rounding(divide) -> None:
    """The first and the last keep 8 bits, so that the fewest are a fraction on average."""
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(60):
        layers = []
        for place in range(3):
            rows = rng.standard_normal(rng.integers(2, 12, 2)).astype(np.float32)
            layers.append(Weights(rows, 1.0, (8,) if place != 1 else (8, 6, 4, 2)))
        sizes = [x.rows.size for x in layers]
        fewest = sum(min(x.options) * n for x, n in zip(layers, sizes, strict=True))
        below += fewest / sum(sizes) * sum(sizes) < fewest
        assert divide(layers, fewest / sum(sizes)) == [8, 2, 8]
    assert below  # of some the rounding is downwards


def test_word_lengths_grow_with_what_the_histogram_holds() -> None:
    few = np.sign(RNG.standard_normal((16, 64))).astype(np.float32)  # two values: two bits do
    many = RNG.standard_normal((64, 256)).astype(np.float32)
    heavy = RNG.standard_t(2, (64, 256)).astype(np.float32)
    assert word_length(few) == 2
    assert word_length(few) < word_length(many) <= 8
    assert word_length(heavy) <= 8 and word_length(np.zeros((3, 4), np.float32)) == 2


def plainly(rows: np.ndarray) -> int:
    """The word length by its definition: each weight becomes the nearest number of the format."""
    most = float(np.abs(rows).max())
    edges = np.linspace(-most, most, 65)
    before = np.histogram(rows, edges)[0] / rows.size
    for bits in range(2, 8):
        step = 2.0 ** (np.floor(np.log2(most)) + 2 - bits)
        grid = step * np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
        nearest = grid[np.abs(rows.ravel()[:, None] - grid).argmin(axis=1)]
        after = np.histogram(np.clip(nearest, -most, most), edges)[0] / rows.size
        some = before > 0
        with np.errstate(divide="ignore"):
            apart = (before[some] * np.log(before[some] / after[some])).sum()
        if apart <= 1e-2:
            return bits
    return 8


def test_the_word_length_is_the_shortest_that_leaves_the_histogram() -> None:
    rng = np.random.default_rng(5)
    found = []
    for bits in range(2, 9):
        for scale in (1.0, 2.0**-7, 48.0):
            whole = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (8, 60))
            near = whole + 0.02  # so that none lies between two numbers or two bins
            near[0, 0] = -(2 ** (bits - 1))
            rows = (scale * 2.0 ** (1 - bits) * near).astype(np.float32)
            found.append(word_length(rows))
            assert found[-1] == plainly(rows.astype(np.float64))
            above = np.abs(rows) + scale / 2
            assert word_length(above) == plainly(above.astype(np.float64))
    assert set(found) == {3, 4, 5, 6, 7, 8}


def test_precision_goes_where_it_is_asked_for() -> None:
    few = Weights(np.sign(RNG.standard_normal((16, 64))).astype(np.float32))
    many = Weights(RNG.standard_normal((16, 64)).astype(np.float32))
    assert word_length(few.rows) == 2 and word_length(many.rows) > 4
    bits = by_precision([few, many], 5.1)
    assert bits[0] == 2 and bits[1] >= word_length(many.rows)
    assert by_precision([few, many], 3.1) == [2, 4]
