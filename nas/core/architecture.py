"""The genotype: an architecture is pure data, and its key names it in every study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

Value = bool | int | float | str
Choices = Mapping[str, Value]


def canonical(data: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, floats as Python prints them.

    >>> canonical({"b": 1, "a": [0.5, True]})
    '{"a":[0.5,true],"b":1}'
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: Any) -> str:
    """128 bits of BLAKE2b over the canonical JSON, in hexadecimal."""
    return hashlib.blake2b(canonical(data).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Architecture:
    """A point of a search space: the space's name and the value of every decision with an effect.

    The choices are read-only. Equal networks have equal keys because decisions without effect are
    dropped before an `Architecture` is made (`SearchSpace.architecture`).

    >>> a = Architecture("toy", {"width": 16, "depth": 2})
    >>> a == Architecture("toy", {"depth": 2, "width": 16}), len(a.key)
    (True, 32)
    """

    space: str
    choices: Choices

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.choices.items()))
        object.__setattr__(self, "choices", MappingProxyType(ordered))

    def __hash__(self) -> int:
        return hash((self.space, tuple(self.choices.items())))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Architecture, (self.space, dict(self.choices))

    @cached_property
    def key(self) -> str:
        """A content hash, the same in every process, study and release."""
        return digest(self.to_json())

    @classmethod
    def keyed(cls, space: str, choices: Choices, key: str) -> Architecture:
        """The architecture of a key that was worked out before, as a database has it."""
        found = cls(space, choices)
        vars(found)["key"] = key  # where the property would keep it
        return found

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        return {"space": self.space, "choices": dict(self.choices)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_json` wrote."""
        return cls(data["space"], data["choices"])
