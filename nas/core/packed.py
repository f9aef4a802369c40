"""Collections that may grow to millions in memory: what is seldom looked at lies compressed."""

from __future__ import annotations

import pickle
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Generic, TypeVar, overload

Kept = TypeVar("Kept")
BLOCK = 256
OPENED = 16  # blocks that stay unpacked after they were asked for


class _Blocks(Generic[Kept]):
    """Compressed lists; those asked for last stay unpacked. Only this process ever reads them."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._opened: OrderedDict[int, Sequence[Kept]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._packed)

    def add(self, block: Sequence[Kept]) -> None:
        self._packed.append(zlib.compress(pickle.dumps(list(block), protocol=5), level=1))

    def __getitem__(self, number: int) -> Sequence[Kept]:
        if number not in self._opened:
            self._opened[number] = pickle.loads(zlib.decompress(self._packed[number]))
            if len(self._opened) > OPENED:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]


class Log(Sequence[Kept]):
    """A list that only grows; all but its end is compressed.

    >>> log = Log(range(1000))
    >>> len(log), log[3], log[-2:], log == list(range(1000))
    (1000, 3, [998, 999], True)
    """

    def __init__(self, items: Any = ()) -> None:
        self._blocks: _Blocks[Kept] = _Blocks()
        self._end: list[Kept] = []
        for item in items:
            self.append(item)

    def append(self, item: Kept) -> None:
        """Adds an item at the end."""
        self._end.append(item)
        if len(self._end) == 2 * BLOCK:
            self._blocks.add(self._end[:BLOCK])
            del self._end[:BLOCK]

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK + len(self._end)

    @overload
    def __getitem__(self, place: int) -> Kept: ...
    @overload
    def __getitem__(self, place: slice) -> list[Kept]: ...
    def __getitem__(self, place: int | slice) -> Kept | list[Kept]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = place + len(self) if place < 0 else place
        block, packed = place // BLOCK, len(self._blocks)
        if not 0 <= place < len(self):
            raise IndexError(place)
        return (
            self._blocks[block][place % BLOCK]
            if block < packed
            else self._end[place - packed * BLOCK]
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _placed(places: array[int], number: object) -> bool:
    """Whether a number has a place."""
    return isinstance(number, int) and 0 <= number < len(places) and places[number] >= 0


class Shelf(MutableMapping[int, Kept]):
    """Things numbered from 0, of which those that were put away lie compressed.

    Iteration is by number.

    >>> shelf = Shelf()
    >>> for number in range(600):
    ...     shelf[number] = str(number)
    ...     shelf.put_away(number)
    >>> shelf[7], len(shelf), list(shelf)[-1]
    ('7', 600, 599)
    """

    def __init__(self) -> None:
        self._loose: dict[int, Kept] = {}
        self._leaving: dict[int, Kept] = {}
        self._blocks: _Blocks[tuple[int, Kept]] = _Blocks()
        self._places = array("l")  # of each number: block * BLOCK + place in it, or -1
        self._count = 0

    def put_away(self, number: int) -> None:
        """Compresses a thing, some time soon; it can still be asked for, and replaced."""
        if number not in self._loose:
            return
        self._leaving[number] = self._loose.pop(number)
        if len(self._leaving) == 2 * BLOCK:
            oldest = list(self._leaving.items())[:BLOCK]
            for place, (gone, _) in enumerate(oldest, len(self._blocks) * BLOCK):
                self._places[gone] = place
                del self._leaving[gone]
            self._blocks.add(oldest)

    def __setitem__(self, number: int, thing: Kept) -> None:
        if number not in self:
            self._count += 1
        if number >= len(self._places):
            self._places.extend([-1] * (number + 1 - len(self._places)))
        self._places[number] = -1
        self._leaving.pop(number, None)
        self._loose[number] = thing

    def __getitem__(self, number: int) -> Kept:
        for held in (self._loose, self._leaving):
            if number in held:
                return held[number]
        if not 0 <= number < len(self._places) or self._places[number] < 0:
            raise KeyError(number)
        block, place = divmod(self._places[number], BLOCK)
        return self._blocks[block][place][1]

    def __delitem__(self, number: int) -> None:
        self[number]
        self._loose.pop(number, None)
        self._leaving.pop(number, None)
        self._places[number] = -1
        self._count -= 1

    def __contains__(self, number: object) -> bool:
        return number in self._loose or number in self._leaving or _placed(self._places, number)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (number for number in range(len(self._places)) if number in self)


class Latest(Mapping[int, Kept]):
    """The last item of a log that was marked for each number; iteration is by number."""

    def __init__(self, log: Log[Kept]) -> None:
        self._log = log
        self._places = array("l")
        self._count = 0

    def mark(self, number: int) -> None:
        """The item just added to the log is this number's."""
        if number >= len(self._places):
            self._places.extend([-1] * (number + 1 - len(self._places)))
        self._count += self._places[number] < 0
        self._places[number] = len(self._log) - 1

    def forget(self, number: int) -> None:
        """The number has no item any more."""
        if number in self:
            self._places[number] = -1
            self._count -= 1

    def __getitem__(self, number: int) -> Kept:
        if number not in self:
            raise KeyError(number)
        return self._log[self._places[number]]

    def __contains__(self, number: object) -> bool:
        return _placed(self._places, number)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (number for number, place in enumerate(self._places) if place >= 0)


class InOrder(Sequence[Kept]):
    """The things of a shelf that are numbered without a gap, as a sequence."""

    def __init__(self, shelf: Shelf[Kept]) -> None:
        self._shelf = shelf

    def __len__(self) -> int:
        return len(self._shelf)

    @overload
    def __getitem__(self, place: int) -> Kept: ...
    @overload
    def __getitem__(self, place: slice) -> list[Kept]: ...
    def __getitem__(self, place: int | slice) -> Kept | list[Kept]:
        if isinstance(place, slice):
            return [self._shelf[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._shelf[place % len(self)]
