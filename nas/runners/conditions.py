"""Which decisions of a table exist only beside certain values of others, by its blank cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Value

Codes = npt.NDArray[np.int64]
When = Mapping[str, Sequence[Value]] | None


BLANK = ""  # the choice that a decision has where it is blank by no rule


def conditions(
    names: Sequence[str], values: Sequence[Sequence[Value]], codes: Codes
) -> tuple[list[int], list[When], list[Sequence[Value]], Codes]:
    """The order in which decisions depend only on earlier ones, and the condition of each.

    A decision exists exactly where each of a few others, as few as do, has one of the values it
    is filled in beside. Where no such rule tells its blank cells, being blank is one of its
    choices.

    Args:
        names: the decisions. values: the choices of each.
        codes: `(rows, decisions)`, the index of each cell among the choices, -1 where blank.

    Returns:
        The order and, by decision as given, conditions, choices and codes.

    >>> codes = np.array([[0, 0], [0, 1], [1, -1]])
    >>> conditions(["kernel", "dilation"], [[3, 7], [1, 2]], codes)[:2]
    ([0, 1], [None, {'kernel': [3]}])
    """
    order = [i for i in range(len(names)) if (codes[:, i] >= 0).all()]
    whens: list[When] = [None] * len(names)
    choices, coded = list(values), codes.copy()
    waiting = [i for i in range(len(names)) if i not in order]
    while waiting:
        found = next(((i, w) for i in waiting if (w := _condition(coded, i, order))), None)
        if found is None:
            decision = waiting[0]
            coded[coded[:, decision] < 0, decision] = len(choices[decision])
            choices[decision] = [*choices[decision], BLANK]
        else:
            decision, parents = found
            whens[decision] = {
                names[p]: [choices[p][v] for v in kept] for p, kept in parents.items()
            }
        order.append(decision)
        waiting.remove(decision)
    return order, whens, choices, coded


def _condition(codes: Codes, decision: int, earlier: Sequence[int]) -> dict[int, list[int]]:
    """For each parent the values beside which the decision exists; empty where none explain it."""
    there = codes[:, decision] >= 0
    beside = {p: np.unique(codes[there, p]) for p in earlier}
    allowed = {p: np.isin(codes[:, p], kept[kept >= 0]) for p, kept in beside.items()}
    chosen: list[int] = []
    explained = np.ones(len(codes), dtype=bool)
    while (explained != there).any():
        left = [p for p in earlier if p not in chosen and not (there & ~allowed[p]).any()]
        gains = [int((explained & ~there & ~allowed[p]).sum()) for p in left]
        if not gains or max(gains) == 0:
            return {}
        best = left[int(np.argmax(gains))]
        chosen.append(best)
        explained &= allowed[best]
    return {p: [int(v) for v in beside[p] if v >= 0] for p in chosen}
