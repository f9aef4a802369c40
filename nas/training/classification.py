"""Image classification: a data set of labelled images as a task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor
from torch.nn import functional

from nas.core.errors import NasError
from nas.core.task import Task
from nas.training.data import Dataset
from nas.training.distort import distorted, erased
from nas.training.recipe import Recipe

SCORED_AT_ONCE = 256
_SEEN_FOR_STATISTICS = 10_000


def image_classification(dataset: Dataset, recipe: Recipe) -> Task:
    """The task of naming the class of each image; its score is accuracy, in percent.

    Training batches are shuffled and augmented from the seed given to `batches` alone; validation
    and test come in their fixed order, as they are.
    """
    mean, std = _statistics(dataset)

    def batches(split: str, seed: int) -> Batches:
        if split not in ("train", "validation", "test"):
            raise NasError(f"no split named {split!r}", "known: train, validation, test")
        indices = getattr(dataset, split)
        return Batches(dataset, indices, recipe, mean, std, seed, train=split == "train")

    return Task(
        input=dataset.facts.input,
        outputs=len(dataset.facts.classes),
        batches=batches,
        loss=partial(LOSSES[recipe.loss], smoothing=recipe.smoothing),
        score=lambda output, target: (output.argmax(1) == target).float(),
        examples=dataset.facts.images,
        digest=dataset.facts.digest,
        classes=dataset.facts.classes,
        normalisation={"mean": tuple(mean.tolist()), "std": tuple(std.tolist())},
    )


def cross_entropy(output: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The mean cross-entropy of classes `(B,)`."""
    return functional.cross_entropy(output, target, label_smoothing=smoothing)


def binary(output: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Each class asked for by itself (ResNet strikes back, arXiv 2110.00476), the mean of all.

    Targets are classes `(B,)`, or `(B, k)` where an image shows k of them: each of those is asked
    for wholly. What smoothing takes from a class is spread over all.
    """
    classes = output.shape[1]
    off = smoothing / classes
    shown = target if target.dim() == 2 else target.unsqueeze(1)
    wanted = torch.full_like(output, off).scatter_(1, shown, 1 - smoothing + off)
    return functional.binary_cross_entropy_with_logits(output, wanted)


LOSSES = {"cross-entropy": cross_entropy, "binary": binary}


def _statistics(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the training images, from 0 to 1."""
    chosen = dataset.train[:: max(1, -(-len(dataset.train) // _SEEN_FOR_STATISTICS))]
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for begin in range(0, len(chosen), 256):  # all of them at once may be gigabytes
        seen = dataset.images[chosen[begin : begin + 256]].reshape(-1, 3)
        count += len(seen)
        total += seen.sum(0, dtype=np.float64)
        squares += np.square(seen, dtype=np.float32).sum(0, dtype=np.float64)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    return torch.from_numpy(mean / 255).float(), torch.from_numpy(std / 255).float()


@dataclass(frozen=True)
class Batches:
    """One pass over a split: `(input, target)` pairs, inputs `(B, 3, H, W)` in channels-last order.

    What comes out depends on the split and the seed alone, and the n-th batch is the same however
    many are taken.
    """

    dataset: Dataset
    indices: np.ndarray
    recipe: Recipe
    mean: Tensor
    std: Tensor
    seed: int
    train: bool

    @property
    def size(self) -> int:
        """Examples in a batch."""
        return min(self.recipe.batch, len(self.indices)) if self.train else SCORED_AT_ONCE

    def __len__(self) -> int:
        count = len(self.indices) / self.size
        return int(count) if self.train else math.ceil(count)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        order = self.indices
        if self.train:
            order = order[torch.randperm(len(order), generator=generator).numpy()]
            order = order.repeat(self.recipe.repeats)
        for number in range(len(self)):
            taken = order[number * self.size : (number + 1) * self.size]
            pixels = torch.from_numpy(self.dataset.images[taken])
            images = pixels.permute(0, 3, 1, 2).float().div_(255)
            if self.train:
                images = self._seen(images, generator)
            else:
                self._normalise(images)
            yield images, torch.from_numpy(self.dataset.labels[taken])

    def _seen(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images in [0, 1] as a training sees them."""
        recipe = self.recipe
        if recipe.distort:
            images = augmented(images, recipe, generator).clamp_(0, 1)
            images = distorted(
                images, recipe.distort, recipe.distort_spread, recipe.distort_chance, generator
            )
            images = self._normalise(images.contiguous(memory_format=torch.channels_last))
        else:
            images = augmented(self._normalise(images), recipe, generator)
        if recipe.erase:
            images = erased(images, recipe.erase, generator)
        return images

    def _normalise(self, images: Tensor) -> Tensor:
        return images.sub_(self.mean.view(-1, 1, 1)).div_(self.std.view(-1, 1, 1))


def augmented(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Images mirrored, moved, turned, zoomed and cut out, each by its own draw, in one step.

    Always draws the same count of random numbers, so that one part of a recipe does not change
    what another draws (but for windows, which came later). The border is continued outwards.
    """
    count, _, height, width = images.shape
    draw = torch.rand((5, count), generator=generator)
    mirrored = draw[0] < 0.5 * recipe.flip
    shift, turn, zoom = 2 * draw[1:3] - 1, 2 * draw[3] - 1, 2 * draw[4] - 1
    if not (recipe.rotate or recipe.zoom or recipe.crop < 1):
        return _moved(images, mirrored, (shift * recipe.shift * width).round().long())
    angle = turn * math.radians(recipe.rotate)
    scale = torch.exp(zoom * math.log1p(recipe.zoom))
    cos, sin = scale * angle.cos(), scale * angle.sin()
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    side = torch.where(mirrored, -1.0, 1.0)
    turned = torch.stack([torch.stack([cos * side, -sin], 1), torch.stack([sin * side, cos], 1)], 1)
    moved = centre + (shift * recipe.shift * width).T
    if recipe.crop < 1:
        share, middle = windows(count, recipe.crop, (width, height), generator)
        turned = turned / share[:, None, :]
        moved = moved - (turned @ middle[:, :, None])[:, :, 0]
    else:
        moved = moved - turned @ centre
    matrix = torch.cat([turned, moved.unsqueeze(2)], 2)
    out: Tensor = warp_affine(
        images, matrix, (height, width), padding_mode="border", align_corners=True
    )
    return out.contiguous(memory_format=torch.channels_last)


def windows(
    count: int, least: float, size: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random windows of images, `size` wide and high: their shares of the sides, their middles.

    Both are `(count, 2)`, width first. Areas are drawn evenly from `least` to 1, sides from 3:4 to
    4:3 evenly in the logarithm; a side that would not fit is cut to the image's.
    """
    draw = torch.rand((4, count), generator=generator)
    area = least + (1 - least) * draw[0]
    aspect = torch.exp((2 * draw[1] - 1) * math.log(4 / 3))
    share = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp(max=1.0)
    sides = torch.tensor(size, dtype=torch.float32)
    start = draw[2:].T * (1 - share) * sides
    return share, start + (share * sides - 1) / 2


def _moved(images: Tensor, mirrored: Tensor, shift: Tensor) -> Tensor:
    """Whole-pixel moves, without interpolation: each pixel fetched from where it comes from."""
    _, _, height, width = images.shape
    columns = (torch.arange(width) - shift[0].unsqueeze(1)).clamp_(0, width - 1)
    columns = torch.where(mirrored.unsqueeze(1), width - 1 - columns, columns)
    rows = (torch.arange(height) - shift[1].unsqueeze(1)).clamp_(0, height - 1)
    every = torch.arange(len(images))
    fetched = images.permute(0, 2, 3, 1)[
        every[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return fetched.permute(0, 3, 1, 2)
