"""The recipe: how published networks were trained, chosen beside any network.

Nothing of it is in the deployed network; what it is worth is seen in the accuracy alone. Points of
different recipes are comparable only as recipes: a network is not better because its loss was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas import Axis, Choice
from nas.core.architecture import Choices
from nas.core.task import Task, TaskSpec
from nas.training.published import PUBLISHED, published

PLAIN, FIXED, NONE = "plain", "fixed", "none"
GUIDE = "resnet18"
AVERAGED = "averaged weights: nas train --recipe has them"


def transform(choices: Choices, task: Task | TaskSpec) -> Any:
    """Changes the recipe to what the choices say, and adds to the loss."""
    from nas.training.ingredients import prepare_bias_loss, regularise
    from nas.training.recipe import Recipe
    from nas.training.tasks import is_function
    from nas.transforms.report import Report
    from nas.transforms.stages import Transform

    whole, loss = str(choices["published"]), choices.get("loss", PLAIN)
    adaptive, strength = choices["batch"] != FIXED, float(choices["orthogonal"])
    guided = choices["guide"] != NONE
    if (whole, loss, adaptive, strength, guided) == (PLAIN, PLAIN, False, 0.0, False):
        return Transform("recipe")
    found = None if whole == PLAIN else published(whole)
    images = isinstance(task, Task) or not is_function(task.source)

    def recipe(said: Mapping[str, Any]) -> Mapping[str, Any]:
        own = Recipe.from_json(said)
        chosen = own if found is None else found.brief(own, images)
        return (growing(chosen, found is None) if adaptive else chosen).to_json()

    def prepare(module: Any, given: Any) -> Any:
        if loss == "bias":
            prepare_bias_loss(module)
        if adaptive:
            from nas.training.growth import remember

            remember(module)
        said = [f"loss: {loss}"] * (loss != PLAIN)
        said += [f"kernels: kept orthogonal, strength {strength:g}"] * (strength > 0)
        said += [f"representations: kept near those of an untrained {GUIDE}"] * guided
        said += ["batch: grows where the gradient's noise asks for it"] * adaptive
        absent: list[str] = []
        if found is not None:
            said.append(f"all of it: {found.paper}")
            drops = found.recipe.drop_path, found.recipe.dropout
            absent = [*found.absent, *([AVERAGED] * bool(found.average))]
            absent += regularise(module, *drops)
        return module, Report("recipe", tuple(said), tuple((whole, why) for why in absent))

    def during(module: Any, given: Any) -> Any:
        return added(module, str(loss), strength, guide(given) if guided else None)

    return Transform("recipe", prepare, during, recipe=recipe)


def guide(given: Any) -> Any:
    """The guide for a task: as it is built, under the study's seed."""
    import torch

    from nas.catalog import load_space

    space, task = load_space("resnet"), given.task
    with torch.random.fork_rng():
        torch.manual_seed(given.seed)
        return space.build(space.at(task).preset(GUIDE).choices, task)


def growing(recipe: Any, plain: bool) -> Any:
    """A recipe with batches that grow, with its authors' optimizer where it is the study's own."""
    from nas.training.growth import BOUND, FLOOR, RATE, WARMUP

    grown = replace(recipe, growth=BOUND, floor=FLOOR, warmup=WARMUP)
    return replace(grown, optimizer="adagrad", rate=RATE, decay=0.0) if plain else grown


def added(module: Any, loss: str, strength: float, guide: Any) -> Any:
    """What the choices add to the loss."""
    from nas.training.guidance import guidance
    from nas.training.ingredients import bias_loss, binary_loss, orthogonality
    from nas.transforms.stages import Addition, Criterion

    parts = {"bias": lambda: bias_loss(module), "binary": binary_loss}
    chosen = [parts[loss]()] if loss != PLAIN else []
    chosen += [orthogonality(module, strength)] if strength else []
    chosen += [guidance(module, guide)] if guide is not None else []

    def criterion(before: Criterion) -> Criterion:
        for part in chosen:
            before = part.criterion(before) if part.criterion else before
        return before

    return Addition(criterion=criterion)


axis = Axis(
    "recipe",
    [
        Choice("published", [PLAIN, *PUBLISHED]),
        Choice("loss", [PLAIN, "bias", "binary"], when={"published": [PLAIN]}),
        Choice("orthogonal", [0.0, 0.01, 0.1]),
        Choice("batch", [FIXED, "adaptive"]),
        Choice("guide", [NONE, "untrained"]),
    ],
    transform,
)
