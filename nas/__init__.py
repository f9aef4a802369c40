"""nas: search architecture and efficiency together, and end in a file that runs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import Study, load, retarget, search
    from nas.core.architecture import Architecture
    from nas.core.axis import Axis
    from nas.core.decision import Choice, Integer, Real
    from nas.core.errors import NasError
    from nas.core.measurement import Measurement
    from nas.core.objective import Constraint, Objective, objective
    from nas.core.space import SearchSpace
    from nas.core.task import Task, TaskSpec

__version__ = "0.1.0"
__all__ = [
    "Architecture", "Axis", "Choice", "Constraint", "Integer", "Measurement", "NasError",
    "Objective", "Real", "SearchSpace", "Study", "Task", "TaskSpec", "load", "objective",
    "retarget", "search",
]  # fmt: skip

# Imported when first asked for: a command that only prints its help waits for no numpy
_HOMES = {
    "nas.api": ("Study", "load", "retarget", "search"),
    "nas.core.architecture": ("Architecture",),
    "nas.core.axis": ("Axis",),
    "nas.core.decision": ("Choice", "Integer", "Real"),
    "nas.core.errors": ("NasError",),
    "nas.core.measurement": ("Measurement",),
    "nas.core.objective": ("Constraint", "Objective", "objective"),
    "nas.core.space": ("SearchSpace",),
    "nas.core.task": ("Task", "TaskSpec"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
