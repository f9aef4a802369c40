"""A line in which each stands once, and the lowest number comes first."""

from __future__ import annotations

import heapq


class Line:
    """Trials that wait for the same, the lowest number first; each stands in it once."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._in: set[int] = set()

    def add(self, number: int) -> None:
        """Lets a trial stand in line."""
        if number not in self._in:
            self._in.add(number)
            heapq.heappush(self._numbers, number)

    def pop(self) -> int:
        """The lowest number, which leaves the line."""
        number = heapq.heappop(self._numbers)
        self._in.discard(number)
        return number

    def __len__(self) -> int:
        return len(self._numbers)
