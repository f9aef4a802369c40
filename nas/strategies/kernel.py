"""How alike two architectures are: an embedding whose squared distances a kernel can weigh."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.core.decision import Choice, Integer
from nas.strategies.candidates import ABSENT, Genes

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

LONGEST = 24  # a scale with more values is a line, not a staircase


class Embedding:
    """Codes and other numbers as vectors, in groups that a kernel weighs apart.

    The squared distance within a group is, for a decision, 1 where two values differ (the Hamming
    distance); and for one on a scale, in a second group, the share of the scale between them. A
    decision that does not exist is a value of its own. For a `Real` and for each extra number
    it is the squared difference. So one matrix product gives all distances of a weighted sum of
    groups, and `exp(-distance)` is a valid kernel: a product of Hamming and Laplace kernels with
    a relevance for each decision.

    Args:
        genes: the codes' space.
        extras: how many further numbers come beside a code.
    """

    def __init__(self, genes: Genes, extras: int = 0) -> None:
        self._genes = genes
        self.extras = extras
        groups: list[int] = []
        self._blocks: list[tuple[int, int, bool]] = []
        for i, decision in enumerate(genes.decisions):
            named = isinstance(decision, Choice | Integer)
            count = len(decision.values) if isinstance(decision, Choice | Integer) else 1
            ordered = isinstance(decision, Integer) or (
                isinstance(decision, Choice) and decision.ordered
            )
            if named and count <= LONGEST:
                self._blocks.append((i, count, False))
                groups += [self._next(groups)] * (count + bool(decision.when))
            if not named or (ordered and count > 2):
                self._blocks.append((i, count, True))
                steps = count - 1 if named and count <= LONGEST else 1
                groups += [self._next(groups)] * steps
        for _ in range(extras):
            groups.append(self._next(groups))
        self.groups: Groups = np.array(groups, dtype=np.int64)
        self.count = self._next(groups)

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
        return np.concatenate(parts, axis=1).astype(np.float64)

    @staticmethod
    def _next(groups: list[int]) -> int:
        return groups[-1] + 1 if groups else 0


def squared(ones: Array, others: Array) -> Array:
    """Squared distances between rows. `(N, F), (M, F) -> (N, M)`"""
    left, right = (ones**2).sum(axis=1), (others**2).sum(axis=1)
    found: Array = np.maximum(left[:, None] + right - 2.0 * ones @ others.T, 0.0)
    return found
