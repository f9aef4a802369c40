"""nas: search architecture and efficiency together, and end in a file that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.core.architecture import Architecture
from nas.core.axis import Axis
from nas.core.decision import Choice, Integer, Real
from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.objective import Constraint, Objective, objective
from nas.core.space import SearchSpace
from nas.core.task import Task, TaskSpec

if TYPE_CHECKING:
    from nas.api import Study, load, retarget, search

__version__ = "0.1.0"
__all__ = [
    "Architecture", "Axis", "Choice", "Constraint", "Integer", "Measurement", "NasError",
    "Objective", "Real", "SearchSpace", "Study", "Task", "TaskSpec", "load", "objective",
    "retarget", "search",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("Study", "load", "retarget", "search"):
        from nas import api

        return getattr(api, name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
