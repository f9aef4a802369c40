"""How a candidate is trained, as data: what is stored with a study and named by its digest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nas.core.errors import NasError, unknown

OPTIMIZERS = ("adamw", "adabelief", "adagrad", "lamb", "nesterov", "sgd")
LOSSES = ("cross-entropy", "binary")
COMPILED = ("never", "repaid", "always")
PRECISIONS = ("float32", "bfloat16", "fastest")
LONG_PRECISIONS = ("auto", "float32", "bfloat16")  # of a training to the end


@dataclass(frozen=True)
class Recipe:
    """An optimizer with a linear warm-up and a cosine decay over the full fidelity's steps.

    The defaults are for brief trainings (1 to 30 epochs) of small networks on 32-pixel images;
    `nas.training.published` has those of papers.

    Args:
        batch: examples a step; a smaller last batch is left out.
        rate: highest learning rate, for that batch.
        decay: weight decay, of weights with two or more axes (norms and biases have none).
        warmup: share of all steps over which the rate grows from zero.
        smoothing: label smoothing of the cross-entropy.
        clip: largest norm of the gradient.
        flip: mirror half of the images (wrong for digits and letters).
        shift: largest translation each way, as a share of the side.
        rotate: largest rotation each way, in degrees.
        zoom: largest change of scale each way, as a share.
        precision: `float32`, `bfloat16` (of activations and products alone), or `fastest`: bfloat16
            where this device was measured to be faster in it.
        optimizer: `adamw`, `adabelief` or `lamb` (`nas.training.optimizers`), `adagrad`, or
            momentum of 0.9, with Nesterov's look ahead (`nesterov`) or not (`sgd`).
        floor: share of the highest rate that the cosine decays to.
        loss: `cross-entropy`, or `binary`: each class asked for by itself (arXiv 2110.00476).
        crop: smallest share of an image's area that a random window, of sides from 3:4 to 4:3,
            shows enlarged (Szegedy et al. 2015); 1 leaves images whole.
        erase: chance that noise covers a random rectangle (`nas.training.distort`).
        distort: RandAugment's magnitude, 0 to 10; 0 leaves it out (`nas.training.distort`).
        distort_spread: deviation of that magnitude. distort_chance: that a chosen one is applied.
        repeats: how often each image of a batch is in it, differently augmented (Hoffer et al.
            2020); an epoch sees as many inputs, of fewer images.
        drop_path: chance that the last block's branch is dropped; earlier ones less, in proportion.
            0 leaves what the network was built with.
        dropout: before the last layer, where the network has one there; 0 likewise.
        mixup, cutmix: as `Strong` has them, of every batch; 0 leaves both out of a brief training.
        growth: bound of the norm test by which batches grow (`nas.training.growth`); 0 keeps them.
        compiled: `never`, `always`, or `repaid`: on a GPU, where the way to the next rung takes so
            long that compiling the network repays itself (`nas.training.compiling`).

    >>> Recipe.from_json(Recipe(batch=64).to_json()).batch
    64
    """

    batch: int = 32
    rate: float = 3e-3
    decay: float = 0.05
    warmup: float = 0.1
    smoothing: float = 0.1
    clip: float = 1.0
    flip: bool = True
    shift: float = 0.1
    rotate: float = 0.0
    zoom: float = 0.0
    precision: str = "float32"
    optimizer: str = "adamw"
    floor: float = 0.0
    loss: str = "cross-entropy"
    crop: float = 1.0
    erase: float = 0.0
    distort: float = 0.0
    distort_spread: float = 0.5
    distort_chance: float = 0.5
    repeats: int = 1
    drop_path: float = 0.0
    dropout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    growth: float = 0.0
    compiled: str = "repaid"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name, low, high in (
                ("batch", 1, 2**20), ("rate", 0.0, 10.0), ("decay", 0.0, 1.0), ("warmup", 0.0, 1.0),
                ("smoothing", 0.0, 0.9), ("clip", 1e-6, 1e9), ("shift", 0.0, 1.0),
                ("rotate", 0.0, 180.0), ("zoom", 0.0, 0.9), ("flip", 0, 1), ("floor", 0.0, 1.0),
                ("crop", 0.01, 1.0), ("erase", 0.0, 1.0), ("distort", 0.0, 10.0),
                ("distort_spread", 0.0, 10.0), ("distort_chance", 0.0, 1.0), ("repeats", 1, 64),
                ("drop_path", 0.0, 0.9), ("dropout", 0.0, 0.9), ("growth", 0.0, 100.0),
                ("mixup", 0.0, 100.0), ("cutmix", 0.0, 100.0),
            )
            if not _within(getattr(self, name), low, high)
        ]  # fmt: skip
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.compiled not in COMPILED:
            raise unknown("way to compile", self.compiled, COMPILED)
        if wrong:
            raise NasError(
                f"no such recipe: {', '.join(wrong)}",
                "shares lie in [0, 1], rate in [0, 10], batch is at least 1",
            )

    def rate_at(self, share: float) -> float:
        """The learning rate after this share of all steps.

        >>> [round(Recipe(rate=1.0, warmup=0.5).rate_at(s), 3) for s in (0.25, 0.5, 0.75, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
        """
        if share < self.warmup:
            return self.rate * share / self.warmup
        rest = (share - self.warmup) / max(1e-9, 1.0 - self.warmup)
        left = 0.5 * (1.0 + math.cos(math.pi * min(1.0, rest)))
        return self.rate * (self.floor + (1.0 - self.floor) * left)

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored.

        A default that came later goes without saying: what was stored before there was a choice
        keeps its digest.
        """
        later = {f.name: f.default for f in fields(self) if f.name not in _FIRST}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote, or a part of one. Raises: NasError for unknown parts."""
        known = [f.name for f in fields(cls)]
        for name in data:
            if name not in known:
                raise unknown("part of a recipe", name, known)
        return cls(**data)


_FIRST = (
    "batch", "rate", "decay", "warmup", "smoothing", "clip", "flip", "shift", "rotate", "zoom",
    "optimizer",
)  # fmt: skip


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high


def brief(source: str, images: int) -> Recipe:
    """The recipe of a search on this many labelled images.

    Few images are trained on in small batches, so that the first epochs have steps enough to tell
    networks apart. `digits` must not be mirrored; photographs may.

    >>> brief("digits", 1797).flip, brief("digits", 1797).batch, brief("folder:p", 60_000).batch
    (False, 16, 64)
    """
    batch = min(64, max(16, 2 ** round(math.log2(max(1, images) / 100))))
    if source == "digits":
        return Recipe(batch=batch, flip=False, shift=0.06, rotate=8.0, zoom=0.08)
    return Recipe(batch=batch)


@dataclass(frozen=True)
class Strong:
    """How a chosen point is trained to its end: what a brief training has no time to profit from.

    Args:
        epochs: passes over all training images.
        plain: optimizer, schedule, label smoothing, and how images are moved.
        mixup, cutmix: parameters of the Beta distributions that two images are blended by (Zhang
            et al. 2018) or pasted into one another by (Yun et al. 2019); 0 leaves one out.
        mixed: share of batches that are mixed.
        average: decay of the running average of the weights for each step, which is what ships; it
            rises from 0.1, so that the first steps are forgotten. 0 ships the last weights.
        precision: of the forward pass, `float32` or `bfloat16`; `auto` takes the quicker.
        distilled: share of the loss that is the distance from a teacher, where there is one.
        temperature: of that distance.

    >>> Strong.from_json(Strong(epochs=5).to_json()) == Strong(epochs=5)
    True
    """

    epochs: int
    plain: Recipe = Recipe()
    mixup: float = 0.2
    cutmix: float = 1.0
    mixed: float = 0.5
    average: float = 0.999
    precision: str = "auto"
    distilled: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name, low, high in (
                ("epochs", 1, 2**20), ("mixup", 0.0, 100.0), ("cutmix", 0.0, 100.0),
                ("mixed", 0.0, 1.0), ("average", 0.0, 0.99999), ("distilled", 0.0, 1.0),
                ("temperature", 0.01, 100.0),
            )
            if not _within(getattr(self, name), low, high)
        ]  # fmt: skip
        if self.precision not in LONG_PRECISIONS:
            raise unknown("precision", self.precision, LONG_PRECISIONS)
        if wrong:
            raise NasError(
                f"no such recipe: {', '.join(wrong)}", "epochs are at least 1, shares lie in [0, 1]"
            )

    def to_json(self) -> dict[str, Any]:
        """The plain data that crosses processes and is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Strong:
        """The recipe that `to_json` wrote."""
        return cls(**{**data, "plain": Recipe.from_json(data["plain"])})


def strong(source: str, brief: Recipe, epochs: int, own: bool = False) -> Strong:
    """The recipe that goes on from a brief training of the same source.

    The weights are trained already, so the highest rate is half of the brief training's. Digits
    are not pasted into one another: half a 6 beside half a 0 is an 8 as well. A task of the user's
    own (`own`) is not mixed at all, since what a mixture of its targets means is not known.

    >>> found = strong("my:task", Recipe(rate=3e-3), 9, own=True)
    >>> found.plain.rate, found.mixed
    (0.0015, 0.0)
    """
    plain = replace(brief, rate=brief.rate / 2)
    if own:
        return Strong(epochs, plain, mixed=0.0)
    return Strong(epochs, plain, cutmix=0.0 if source == "digits" else 1.0)
