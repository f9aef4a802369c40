"""Values of decisions that were hardly tried in good company."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.core.decision import Choice, Integer
from nas.strategies.candidates import Genes, apart
from nas.strategies.kernel import LONGEST

Array = npt.NDArray[np.float64]

ENOUGH = 2  # networks near the front that show what a value is worth there


def neglected(
    genes: Genes, tried: Array, front: Array, rng: np.random.Generator
) -> list[tuple[int, float]]:
    """Values that fewer than `ENOUGH` networks near the front have: the rarest first, else drawn.

    Near is what differs from a network of the front in one decision at most.

    Args:
        genes: the codes' space.
        tried: `(N, decisions)`, codes of all that was proposed. front: `(P, decisions)`.

    Returns:
        The place of each decision and the code of its value.
    """
    near = tried[apart(tried, front) <= 1]
    found = []
    for place, decision in enumerate(genes.decisions):
        values = decision.values if isinstance(decision, Choice | Integer) else ()
        if 1 < len(values) <= LONGEST:  # else a line: its neighbours tell what a value is worth
            have = (near[:, place, None] == np.arange(len(values))).sum(axis=0)
            found += [(n + rng.random(), place, float(v)) for v, n in enumerate(have) if n < ENOUGH]
    return [(place, value) for _, place, value in sorted(found)]
