"""nas: search architecture and efficiency together, and end in a file that runs."""

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Integer, Real
from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.objective import Constraint, Objective, objective
from nas.core.space import SearchSpace
from nas.core.task import Task, TaskSpec

__version__ = "0.1.0"
__all__ = [
    "Architecture", "Choice", "Constraint", "Integer", "Measurement", "NasError", "Objective",
    "Real", "SearchSpace", "Task", "TaskSpec", "objective",
]  # fmt: skip
