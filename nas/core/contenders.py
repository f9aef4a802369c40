"""Who may still be on a front: of millions of points, the thousand or so that are worth a look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core.pareto import Array

CROWD = 128  # so many that beat a point in the numbers as they are, and no doubt puts it on a front


class Contenders:
    """Points that fewer than `crowd` others dominate, kept as points are added.

    The skyband of Papadias et al. (2005). A point that is out never comes back, and what it
    dominates is out as well; so who is in depends on nobody who is out.

    >>> some = Contenders(crowd=1)
    >>> some.add(0, (1, 2)), some.add(1, (2, 1)), some.add(2, (0.5, 0.5)), some.add(3, (9, 9))
    ([], [], [0, 1], [3])
    """

    def __init__(self, crowd: int = CROWD) -> None:
        self._crowd = crowd
        self._numbers: Array = np.zeros(0, dtype=np.int64)
        self._points: Array = np.zeros((0, 0))
        self._beaten: Array = np.zeros(0, dtype=np.int64)
        self._in: set[int] = set()

    def __contains__(self, number: object) -> bool:
        return number in self._in

    @property
    def numbers(self) -> list[int]:
        """Who is in, in order."""
        return sorted(self._in)

    def add(self, number: int, point: Sequence[float]) -> list[int]:
        """Takes a point in, minimised; the numbers that are out from now on.

        One that is not known in everything (NaN) beats nobody, and nobody beats it.
        """
        new = np.asarray(point, dtype=np.float64)
        if not len(self._numbers):
            self._points = np.zeros((0, len(new)))
        worse, better = (self._points >= new).all(axis=1), (self._points <= new).all(axis=1)
        count = int((better & ~worse).sum())
        if count >= self._crowd:
            return [number]
        self._beaten = np.append(self._beaten + (worse & ~better), count)
        self._in.add(number)
        self._numbers = np.append(self._numbers, number)
        self._points = np.vstack([self._points, new])
        kept = self._beaten < self._crowd
        out = [int(n) for n in self._numbers[~kept]]
        if out:
            self._numbers, self._points = self._numbers[kept], self._points[kept]
            self._beaten = self._beaten[kept]
            self._in.difference_update(out)
        return out
