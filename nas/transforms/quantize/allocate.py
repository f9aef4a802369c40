"""How many bits each layer's weights have, from one average for all of them.

Two opinions on what a missing bit costs, and one exact division of the budget
(`nas.transforms.sparsify.allocate.rate_distortion`). 8 bits are always among the options, so that a
layer that may lose nothing loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.transforms.quantize.codes import BITS, Array, codes, double_rounded, widest_steps
from nas.transforms.sparsify.allocate import rate_distortion

OPTIONS = (8, 6, 4, 2)
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
BINS = 64  # of the histograms that AdaPT compares
SLACK = 1e-3  # bits of a whole network
EDGE = 1e-2  # Kullback-Leibler divergence, in nats, below which two histograms are one


@dataclass(frozen=True)
class Weights:
    """A layer's weights by row, and what the loss makes of moving them: the trace of its Hessian.

    Args:
        rows: `(outputs, n)`. trace: summed over all of the layer's weights.
        options: the bits it may have.
    """

    rows: npt.NDArray[np.float32]
    trace: float = 1.0
    options: tuple[int, ...] = OPTIONS

    @property
    def error(self) -> Array:
        """Squared distance between the weights and what each option leaves of them."""
        steps = widest_steps(self.rows)
        kept = codes(self.rows, steps)
        found = []
        for bits in self.options:
            longer = steps[:, None] * 2 ** (BITS - bits)
            left = double_rounded(kept, bits) * longer if bits < BITS else kept * longer
            found.append(float(np.square(self.rows - left).sum()))
        return np.array(found)


def by_hessian(layers: Sequence[Weights], average: float) -> list[int]:
    """Bits for which `sum(trace / n * |Q(w) - w|^2)` is least at this average over all weights.

    HAWQ-V2's form (Dong et al. 2020). The Hessian-aware bits of Double Rounding's second algorithm,
    as printed, minimise trace times bits, which gives the most sensitive layers the fewest.

    Raises: ValueError where even the fewest bits are above the average.
    """
    harm = [layer.trace / layer.rows.size * layer.error for layer in layers]
    return _divided(layers, harm, average)


def by_precision(layers: Sequence[Weights], average: float) -> list[int]:
    """Bits nearest to what AdaPT asks for each layer (`word_length`), at this average.

    A bit less than asked for makes four times the noise. AdaPT (Kummer et al. 2021) has no budget;
    that what it asks for is divided so is our choice.
    """
    asked = [word_length(layer.rows) for layer in layers]
    harm = [
        layer.rows.size * np.array([4.0 ** max(0, want - b) for b in layer.options])
        for want, layer in zip(asked, layers, strict=True)
    ]
    return _divided(layers, harm, average)


def _divided(layers: Sequence[Weights], harm: Sequence[Array], average: float) -> list[int]:
    sizes = [layer.rows.size for layer in layers]
    costs = [np.array(layer.options, float) * n for layer, n in zip(layers, sizes, strict=True)]
    # Whole bits: rounding may have made the average a little less than the fraction that is meant.
    budget = math.floor(average * sum(sizes) + SLACK)
    least = sum(float(c.min()) for c in costs)
    if least > budget:
        raise ValueError(f"at least {least / sum(sizes):.2f} bits on average, not {average}")
    chosen = rate_distortion(costs, harm, budget)
    return [layer.options[i] for layer, i in zip(layers, chosen, strict=True)]


def word_length(rows: npt.NDArray[np.float32], bins: int = BINS) -> int:
    """The fewest bits of a fixed-point format that leave the histogram of the weights as it is.

    AdaPT's push-down: the shortest fraction, then the shortest word, for which the Kullback-Leibler
    divergence from the weights' histogram to that of their rounding is nothing. Fixed-point steps
    are powers of two, one for the layer. Its push-up, by the gradients' diversity, lengthens the
    word while training; here the budget says how long words may be. `EDGE` is our choice: with
    finitely many weights the divergence is never exactly nothing.
    """
    flat = rows.astype(np.float64).ravel()
    most = float(np.abs(flat).max(initial=0.0))
    if most == 0:
        return WIDTHS[0]
    edges = np.linspace(-most, most, bins + 1)
    before = np.histogram(flat, edges)[0] / len(flat)
    whole = math.floor(math.log2(most)) + 1  # bits left of the point, fewer than none for small
    for bits in WIDTHS[:-1]:
        step = 2.0 ** (whole - (bits - 1))
        left = np.clip(np.rint(flat / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
        after = np.histogram(np.clip(left, -most, most), edges)[0] / len(flat)
        if _divergence(before, after) <= EDGE:
            return bits
    return WIDTHS[-1]


def _divergence(before: Array, after: Array) -> float:
    """Kullback-Leibler, in nats; infinite where something came from is nowhere afterwards."""
    some = before > 0
    if (after[some] == 0).any():
        return math.inf
    return float((before[some] * np.log(before[some] / after[some])).sum())
