"""How alike two architectures are: an embedding whose squared distances a kernel can weigh."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.core.decision import Choice, Integer
from nas.strategies.candidates import ABSENT, Genes

Array = npt.NDArray[np.float64]

LONGEST = 24  # a scale with more values is a line, not a staircase

Named = list[tuple[int, Hashable]]  # of each feature its block, and its value's name


@dataclass(frozen=True)
class Part:
    """Features that a kernel of their own weighs.

    The logarithms of the weights are sums of few parameters, `design` `(features, parameters)`: the
    first `count` are of a block of features, the others of a value that blocks share.
    """

    columns: slice
    design: Array
    count: int


class Embedding:
    """Codes and other numbers as vectors whose squared distances kernels weigh by feature.

    A decision has a feature for each of its values, so two networks that differ in it are as far
    apart as the weights of both values; one on a scale has a second set, one for each step, whose
    distance is the share of the scale between them. A decision that does not exist has a value of
    its own. A `Real` and each extra number are features themselves. So one matrix product gives
    all distances, and `exp(-distance)` is a valid kernel: a product of Hamming and Laplace kernels.

    A weight is that of its decision times that of its value, which decisions with the same values
    share. So what is learnt of an operation at one place of a network counts at every other.

    Where decisions share their values there is a second part: how often each value occurs among
    them, beside the extra numbers. To a kernel of it, networks of the same operations at other
    places are alike.

    Args:
        genes: the codes' space.
        extras: how many further numbers come beside a code.

    Attributes:
        parts: all decisions and extra numbers; then what decisions share, if they do.
    """

    def __init__(self, genes: Genes, extras: int = 0) -> None:
        self._genes = genes
        self.extras = extras
        self._blocks: list[tuple[int, int, bool]] = []
        named: Named = []
        for i, decision in enumerate(genes.decisions):
            values = decision.values if isinstance(decision, Choice | Integer) else ()
            count = len(values)
            ordered = isinstance(decision, Integer) or (
                isinstance(decision, Choice) and decision.ordered
            )
            if count > 0 and (count <= LONGEST or not ordered):
                features = range(-1 if decision.when else 0, count)
                own = count <= LONGEST  # else the design grows with the square of all values
                named += [(len(self._blocks), (values, False, v) if own else None)
                          for v in features]  # fmt: skip
                self._blocks.append((i, count, False))
            if not count or (ordered and count > 2):
                steps = count - 1 if 0 < count <= LONGEST else 1
                named += [(len(self._blocks), (values, True, v)) for v in range(steps)]
                self._blocks.append((i, count, True))
        named += [(len(self._blocks) + e, None) for e in range(extras)]
        self.parts = [_part(0, len(self._blocks) + extras, named)]
        self._shared = _shared(genes)
        if self._shared:
            often: Named = [(e, None) for e in range(extras)]
            for block, (shared, _) in enumerate(self._shared, start=extras):
                often += [(block, (shared, v)) for v in range(len(shared))]
            self.parts.append(_part(len(named) - extras, extras + len(self._shared), often))

    def __call__(self, codes: Array, extras: Array | None = None) -> Array:
        """`(N, decisions)` and `(N, extras)` as `(N, features)`, unweighted."""
        parts: list[Array] = []
        for i, count, scale in self._blocks:
            column = codes[:, i]
            decision = self._genes.decisions[i]
            if not scale:
                values = np.arange(-1 if decision.when else 0, count)
                parts.append((column[:, None] == values) * np.sqrt(0.5))
            elif isinstance(decision, Choice | Integer):
                place = np.where(column == ABSENT, (count - 1) / 2, column)[:, None]
                if count > LONGEST:
                    parts.append(place / (count - 1))
                else:
                    parts.append((place > np.arange(count - 1)) / np.sqrt(count - 1))
            else:
                parts.append(np.where(column == ABSENT, 0.5, column)[:, None])
        if self.extras:
            parts.append(np.zeros((len(codes), self.extras)) if extras is None else extras)
        for shared, places in self._shared:
            often = (codes[:, places, None] == np.arange(len(shared))).sum(axis=1)
            parts.append(often / np.sqrt(2 * len(places)))
        return np.concatenate(parts, axis=1).astype(np.float64)


def _part(first: int, count: int, named: Named) -> Part:
    """The part of so many blocks whose features begin at a column."""
    values = list(dict.fromkeys(value for _, value in named if value is not None))
    design: Array = np.zeros((len(named), count + len(values)))
    for row, (block, value) in enumerate(named):
        design[row, block] = 1.0
        if value is not None:
            design[row, count + values.index(value)] = 1.0
    return Part(slice(first, first + len(named)), design, count)


def _shared(genes: Genes) -> list[tuple[tuple[Hashable, ...], list[int]]]:
    """Few values that several decisions have, and the places of these."""
    found: dict[tuple[Hashable, ...], list[int]] = {}
    for place, decision in enumerate(genes.decisions):
        values = decision.values if isinstance(decision, Choice | Integer) else ()
        if 1 < len(values) <= LONGEST:
            found.setdefault(tuple(values), []).append(place)
    return [(values, places) for values, places in found.items() if len(places) > 1]


def squared(ones: Array, others: Array) -> Array:
    """Squared distances between rows. `(N, F), (M, F) -> (N, M)`"""
    found: Array = ones @ others.T
    found *= -2.0
    found += (ones**2).sum(axis=1)[:, None]
    found += (others**2).sum(axis=1)
    return np.maximum(found, 0.0, out=found)
