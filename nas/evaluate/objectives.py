"""The user's own objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nas.catalog import load_objective
from nas.core.errors import NasError
from nas.core.objective import BUILTIN, STATIC
from nas.core.task import Task
from nas.evaluate.place import Place


@dataclass(frozen=True)
class Candidate:
    """What a user's objective is given; what it does not need may be None."""

    choices: Mapping[str, Any]
    task: Task
    module: nn.Module | None = None
    file: Path | None = None


def own_objectives(place: Place, candidate: Candidate, trained: bool) -> dict[str, float]:
    """The user's own objectives that can be known now."""
    values = {}
    for objective in place.spec.objectives:
        known = objective.name in BUILTIN or objective.name == place.spec.task.score_name
        if known or (objective.needs in STATIC) == trained:
            continue
        value = float(load_objective(objective.name)[1](candidate))
        values[objective.name] = finite(objective.name, value)
    return values


def finite(name: str, value: float) -> float:
    """A number that can be stored and ranked. Raises: NasError for any other."""
    if not math.isfinite(value):
        raise NasError(f"{name} is {value}", "it must be a finite number")
    return value
