"""The operators of an ONNX file, read without the onnx package, which the host may lack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

GRAPH, NODE = 7, 1  # of a model; of a graph
INPUT, OUTPUT, NAME, OPERATOR = 1, 2, 3, 4  # of a node


@dataclass(frozen=True)
class Node:
    """An operator: its name, its kind, the values it reads and writes."""

    name: str = ""
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def nodes(path: Path) -> list[Node]:
    """The operators of a file's graph, in its order; bodies of loops and branches left out."""
    found: list[Node] = []
    for _, graph in fields(memoryview(path.read_bytes()), GRAPH):
        found += [_node(node) for _, node in fields(graph, NODE)]
    return found


def _node(data: memoryview) -> Node:
    texts: dict[int, list[str]] = {INPUT: [], OUTPUT: [], NAME: [""], OPERATOR: [""]}
    for number, value in fields(data):
        if number in texts:
            texts[number].append(bytes(value).decode())
    return Node(texts[NAME][-1], texts[OPERATOR][-1], texts[INPUT], texts[OUTPUT])


def fields(data: memoryview, wanted: int | None = None) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of bytes in a message; numbers of other kinds are skipped.

    Raises: ValueError for what is no such message.
    """
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        kind = key & 7
        if kind == 2:
            size, place = varint(data, place)
            if wanted in (None, key >> 3):
                yield key >> 3, data[place : place + size]
            place += size
        elif kind == 0:
            _, place = varint(data, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no protocol buffer: a field of kind {kind}")


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it.

    >>> varint(memoryview(bytes([0b1010_1100, 0b0000_0010])), 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
