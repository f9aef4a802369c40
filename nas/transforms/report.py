"""What a transform did to a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nas.core.architecture import Value


@dataclass(frozen=True)
class Report:
    """What was changed, and what was not and why.

    Args:
        transform: the transform's name.
        touched: one line for each change, `PATH: WHAT`.
        skipped: `(path, reason)` for each other layer that one might expect to have changed; before
            training, for every part of the network that holds weights (`nas.transforms.unnamed`).
        notes: what is true of the whole: that something saves bytes and no time, for example.
        suggests: choices of the transform's axis that the trained network asks for, under the
            axis's own names.

    >>> print(Report("fold", ("stem.norm: into the convolution",), (("head", "layer norm"),)))
    fold: 1 changes, 1 left
      stem.norm: into the convolution
      head: left, layer norm
    """

    transform: str
    touched: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    suggests: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.transform}: {len(self.touched)} changes, {len(self.skipped)} left"]
        lines += [f"  {line}" for line in self.touched]
        lines += [f"  {path}: left, {why}" for path, why in self.skipped]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The plain data that is kept with a trial."""
        return asdict(self)
