"""The axis `recipe`: whole recipes in a search, and what none of them has said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.catalog import load_axis
from nas.core.axis import join
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.networks.parts.residual import DropPath
from nas.training.growth import GROWN
from nas.training.mixing import brief_mixing
from nas.training.published import PUBLISHED
from nas.training.recipe import Recipe
from nas.transforms.stages import Given, Pipeline

TASK = TaskSpec("digits", (3, 8, 8), 4)
SPACE = join(SearchSpace("own", [], lambda choices, task: None), [load_axis("recipe")]).at(TASK)
OWN = Recipe(batch=64, flip=False)


def pipeline(**choices: object) -> Pipeline:
    chosen = SPACE.repair({f"recipe.{k}": v for k, v in choices.items()})  # type: ignore[misc]
    given = Given(TASK, lambda count: torch.zeros(count, *TASK.input))
    return Pipeline(SPACE.transforms(chosen.choices, TASK), given)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), DropPath(0.0), DropPath(0.0), nn.Flatten(),
                         nn.Linear(144, 4))  # fmt: skip


def test_the_axis_offers_every_published_recipe() -> None:
    [decision] = [d for d in SPACE.listed if d.name == "recipe.published"]
    assert list(decision.values) == ["plain", *PUBLISHED]


def test_untouched_it_changes_nothing() -> None:
    found = pipeline()
    assert found.recipe(OWN.to_json()) == OWN.to_json()
    module = network()
    assert found.prepare(module) == (module, [])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_trains_a_candidate_and_says_what_is_absent(name: str) -> None:
    found, wanted = pipeline(published=name), PUBLISHED[name]
    assert Recipe.from_json(found.recipe(OWN.to_json())) == wanted.brief(OWN)
    module, [report] = found.prepare(network())
    absent = [why for _, why in report.skipped]
    assert set(wanted.absent) <= set(absent)
    assert any("averaged" in why for why in absent) == bool(wanted.average)
    rates = [m.rate for m in module.modules() if isinstance(m, DropPath)]
    assert rates == [0.0, wanted.recipe.drop_path]
    assert any("dropout" in why for why in absent) == bool(wanted.recipe.dropout)


def test_its_batches_are_mixed_but_those_of_ones_own_task_are_not() -> None:
    images, labels = torch.randn(8, *TASK.input), torch.arange(8) % 4
    for name, mixes in (("plain", False), ("resnet-rs", False), ("convnext", True)):
        seen: list[Tensor] = []

        def loss(module: nn.Module, inputs: Tensor, target: Tensor, seen: Any = seen) -> Tensor:
            seen.append(inputs)
            return functional.cross_entropy(module(inputs), target)

        recipe = Recipe.from_json(pipeline(published=name).recipe(OWN.to_json()))
        wrapped = loss
        for addition in brief_mixing(recipe):
            wrapped = addition.criterion(wrapped)  # type: ignore[misc,assignment]
        wrapped(network(), images, labels).backward()
        assert torch.equal(seen[0], images) != mixes
    own = TaskSpec("mine.tasks:fields", (3, 8, 8), 4)
    chosen = SPACE.repair({"recipe.published": "convnext"}).choices
    [transform] = SPACE.transforms(chosen, own)
    assert not brief_mixing(Recipe.from_json(transform.recipe(OWN.to_json())))


def test_growing_batches_have_their_papers_rate_or_their_recipes() -> None:
    found = pipeline(batch="adaptive")
    alone = Recipe.from_json(found.recipe(OWN.to_json()))
    assert (alone.optimizer, alone.rate, alone.growth) == ("adagrad", 0.05, 0.5)
    assert (alone.floor, alone.warmup, alone.batch) == (0.1, 0.1, 64)
    module, _ = found.prepare(network())
    assert int(getattr(module, GROWN)) == 1
    both = pipeline(batch="adaptive", published="bag-of-tricks").recipe(OWN.to_json())
    assert (both["optimizer"], both["growth"], both["floor"]) == ("nesterov", 0.5, 0.1)


def test_a_guide_is_untrained_and_the_same_each_time() -> None:
    images, labels = torch.randn(4, *TASK.input), torch.arange(4)
    losses = []
    for guide in ("none", "untrained", "untrained"):
        torch.manual_seed(len(losses))
        found, module = pipeline(guide=guide), network()
        wrapped = [a.criterion for a in found.during(module)]
        loss = lambda m, x, t: functional.cross_entropy(m(x), t)  # noqa: E731
        for wrap in wrapped:
            loss = wrap(loss)  # type: ignore[misc]
        losses.append(loss(module.eval(), images, labels).item())
    assert losses[0] < losses[1] == losses[2] < losses[0] + 2  # one minus alignment, of two layers


def test_a_whole_recipe_has_its_own_loss() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        choices = SPACE.sample(rng).choices
        assert ("recipe.loss" in choices) == (choices["recipe.published"] == "plain")
