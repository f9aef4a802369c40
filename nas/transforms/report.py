"""What a transform did to a module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What was changed, and what was not and why.

    Args:
        transform: the transform's name.
        touched: one line for each change, `PATH: WHAT`.
        skipped: `(path, reason)` for each layer that one might expect to have changed.

    >>> print(Report("fold", ("stem.norm: into the convolution",), (("head", "layer norm"),)))
    fold: 1 changes, 1 left
      stem.norm: into the convolution
      head: left, layer norm
    """

    transform: str
    touched: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [f"{self.transform}: {len(self.touched)} changes, {len(self.skipped)} left"]
        lines += [f"  {line}" for line in self.touched]
        lines += [f"  {path}: left, {why}" for path, why in self.skipped]
        return "\n".join(lines)
