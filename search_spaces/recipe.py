"""The recipe: what published trainings add to the loss, chosen beside any network.

Nothing of it is in the deployed network; what it is worth is seen in the accuracy alone. Points of
different recipes are comparable only as recipes: a network is not better because its loss was.
"""

from __future__ import annotations

from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.task import Task, TaskSpec


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Adds what the choices say to the training."""
    from nas.training.ingredients import bias_loss, binary_loss, orthogonality, prepare_bias_loss
    from nas.transforms.report import Report
    from nas.transforms.stages import Transform

    name, strength = choices["loss"], float(choices["orthogonal"])

    def prepare(module: Any, given: Any) -> Any:
        if name == "bias":
            prepare_bias_loss(module)
        said = [f"loss: {name}"] * (name != "plain")
        said += [f"kernels: kept orthogonal, strength {strength:g}"] * (strength > 0)
        return module, Report("recipe", tuple(said), ())

    def during(module: Any, given: Any) -> Any:
        from nas.transforms.stages import Addition, Criterion

        parts = {"bias": lambda: bias_loss(module), "binary": binary_loss}
        added = [parts[str(name)]()] if name != "plain" else []
        added += [orthogonality(module, strength)] if strength else []

        def criterion(before: Criterion) -> Criterion:
            for part in added:
                before = part.criterion(before) if part.criterion else before
            return before

        return Addition(criterion=criterion)

    if name == "plain" and not strength:
        return Transform("recipe")
    return Transform("recipe", prepare, during)


axis = Axis(
    "recipe",
    [
        Choice("loss", ["plain", "bias", "binary"]),
        Choice("orthogonal", [0.0, 0.01, 0.1]),
    ],
    transform,
)
