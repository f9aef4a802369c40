"""Mixed batches: two images in one, and their targets in the same shares.

Mixup (Zhang et al. 2018) blends a batch with itself in another order; CutMix (Yun et al. 2019)
pastes a rectangle of the one into the other. The network runs once for both targets.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nas.training.recipe import Recipe, Strong
from nas.transforms.stages import Addition, Criterion


def brief_mixing(recipe: Recipe) -> list[Addition]:
    """What a brief training's recipe mixes, of every batch; nothing where it says so."""
    if not (recipe.mixup or recipe.cutmix):
        return []
    return [mixing(Strong(1, recipe, recipe.mixup, recipe.cutmix, mixed=1.0))]


class Once(nn.Module):
    """A module that computes its answer to a batch once, however often it is asked for it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._asked: Tensor | None = None
        self._said: Any = None

    def forward(self, inputs: Tensor) -> Any:
        """The module's answer; the same tensor gets the same answer."""
        if inputs is not self._asked:
            self._asked, self._said = inputs, self.module(inputs)
        return self._said


def mixing(recipe: Strong) -> Addition:
    """Mixes the recipe's share of batches; random numbers come from torch's own generator.

    A mixed batch's loss is the loss of both targets, each in its share; where classes are asked for
    one by one, both are there (ResNet strikes back, arXiv 2110.00476). Batches whose targets are no
    tensor, or whose inputs are no images where only CutMix is asked for, stay as they are.
    """

    def mixed(loss: Criterion) -> Criterion:
        def both(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            draw = torch.rand(3).tolist()  # always the same count
            blend = recipe.mixup > 0 and (recipe.cutmix == 0 or draw[1] < 0.5)
            plain = not (blend or (recipe.cutmix > 0 and inputs.ndim == 4))
            if plain or draw[0] >= recipe.mixed or not isinstance(target, Tensor):
                return loss(module, inputs, target)
            order = torch.randperm(len(inputs), device=inputs.device)
            share = beta(recipe.mixup if blend else recipe.cutmix)
            if blend:
                inputs = share * inputs + (1 - share) * inputs[order]
            else:
                inputs, share = pasted(inputs, order, share)
            if recipe.plain.loss == "binary":
                return loss(module, inputs, torch.stack([target, target[order]], 1))
            module = Once(module)
            first = loss(module, inputs, target)
            return share * first + (1 - share) * loss(module, inputs, target[order])

        return both

    return Addition(criterion=mixed)


def beta(parameter: float) -> float:
    """A draw of Beta(parameter, parameter), from torch's generator."""
    return float(torch.distributions.Beta(parameter, parameter).sample())


def pasted(images: Tensor, order: Tensor, share: float) -> tuple[Tensor, float]:
    """Images `(B, C, H, W)` with a rectangle of the images in `order`, and what share is left.

    The rectangle takes `1 - share` of the area before it is cut off at the border.
    """
    height, width = images.shape[-2:]
    side = math.sqrt(1 - share)
    row, column = (torch.rand(2).numpy() * (height, width)).tolist()
    top, bottom = (round(min(height, max(0.0, row + s * side * height / 2))) for s in (-1, 1))
    left, right = (round(min(width, max(0.0, column + s * side * width / 2))) for s in (-1, 1))
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
