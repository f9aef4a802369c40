"""How much a candidate is trained before it is judged: epochs, share of the data, rungs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas.core.errors import NasError


@dataclass(frozen=True)
class Fidelity:
    """The full training of a search, and the rungs at which a trial reports on the way.

    Args:
        epochs: passes over the data at full fidelity.
        data: share of the training data seen in each pass, in (0, 1].
        reduction: each rung trains this many times longer than the one before.
        first: epochs at the lowest rung.

    >>> Fidelity(epochs=9, first=1, reduction=3).rungs
    (1, 3, 9)
    >>> Fidelity(epochs=10, first=2, reduction=3).rungs
    (2, 6, 10)
    """

    epochs: int
    data: float = 1.0
    reduction: int = 3
    first: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.first < 1 or self.reduction < 2 or not 0 < self.data <= 1:
            raise NasError(
                f"no such fidelity: epochs={self.epochs}, first={self.first}, "
                f"reduction={self.reduction}, data={self.data}",
                "epochs and first are at least 1, reduction at least 2, data in (0, 1]",
            )

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs trained at each rung, ascending; the last is the full fidelity."""
        rungs, epochs = [], self.first
        while epochs < self.epochs:
            rungs.append(epochs)
            epochs *= self.reduction
        return (*rungs, self.epochs)

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fidelity:
        """The fidelity that `to_json` wrote."""
        return cls(**data)
