"""What is known of an architecture before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture
from nas.core.objective import Constraint
from nas.strategies.candidates import Genes

Array = npt.NDArray[np.float64]
Costs = Callable[[Architecture], Mapping[str, float]]


class Known:
    """What is known of codes before training, asked for once for each.

    Args:
        genes: of the space.
        costs: the known objectives of an architecture, by name; None where nothing is known.
    """

    def __init__(self, genes: Genes, costs: Costs | None) -> None:
        self._genes = genes
        self._costs = costs
        self._names: list[str] | None = None
        self._asked: dict[bytes, list[float]] = {}
        self._latest: tuple[Array | None, Array] = None, np.zeros((0, 0))

    def names(self, code: Array) -> list[str]:
        """What is known, by name; asks for one code if nothing was asked yet."""
        if self._names is None:
            self._names = [] if self._costs is None else sorted(self._ask(code))
        return self._names

    def __call__(self, codes: Array) -> Array:
        """The known values of codes, one column for each name."""
        if self._costs is None or not len(codes):
            return np.zeros((len(codes), 0))
        if codes is self._latest[0]:
            return self._latest[1]
        names = self.names(codes[0])
        rows = []
        for code in codes:
            key = code.tobytes()
            if key not in self._asked:
                found = self._ask(code)
                self._asked[key] = [float(found[n]) for n in names]
            rows.append(self._asked[key])
        self._latest = codes, np.array(rows)
        return self._latest[1]

    def _ask(self, code: Array) -> Mapping[str, float]:
        return self._costs(self._genes.architecture(code)) if self._costs else {}


def exact(constraint: Constraint, known: Sequence[str] | Mapping[str, int]) -> bool:
    """Whether a constraint is on a number that is known, and on no other form of it."""
    return constraint.quantile is None and constraint.usual and constraint.name in known
