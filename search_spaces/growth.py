"""Growth: what a trained network would gain by one more layer, or by more channels.

`ask = True` looks at the network when it is trained, and changes nothing; only `--strategy senn`
proposes it, and follows what it says.
"""

from __future__ import annotations

from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.task import Task, TaskSpec


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Asks the trained network, where the choices say so."""
    from nas.training.expansion import asked
    from nas.transforms.report import Report
    from nas.transforms.stages import Transform

    def judge(module: Any, given: Any, batches: Any) -> Report:
        grown = given.grown() if given.grown else {}
        return asked(module, given.task, grown, given.seed)

    return Transform("growth", judge=judge if choices["ask"] else None)


axis = Axis(
    "growth",
    [Choice("ask", [False, True], proposed=[False])],
    transform,
)
