"""Whole recipes as papers give them, by name, and what of each there is none of here.

A recipe's rate is of the batch it was published with; for another batch it is multiplied by the
ratio of the two (Goyal et al. 2017) under momentum, and by the ratio's square root under AdamW and
LAMB (You et al. 2020). Where a paper's code and its text differ, the figures are the paper's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from nas.core.errors import unknown
from nas.training.recipe import Recipe, Strong

UNCLIPPED = 1e9


@dataclass(frozen=True)
class Published:
    """A recipe as its paper gives it.

    Args:
        paper: where it is from.
        epochs: passes over all training images. warmup: how many of them the rate grows in.
        recipe: the rest that a brief training has as well, at the published batch.
        mixup, cutmix, average: as `Strong` has them; every batch is mixed.
        temperature: of its distillation, where it has one.
        absent: what else the recipe says, of which there is nothing here, or elsewhere.
    """

    paper: str
    epochs: int
    warmup: float
    recipe: Recipe
    mixup: float = 0.0
    cutmix: float = 0.0
    average: float = 0.0
    temperature: float = 2.0
    absent: tuple[str, ...] = field(default=())

    def brief(self, own: Recipe, images: bool = True) -> Recipe:
        """The recipe at the batch of `own`, whose mirroring and precision stay.

        Whether images may be mirrored is the data's to say, and not the recipe's. Images of a task
        of the user's own (`images` False) are not mixed.
        """
        rate = self.recipe.rate * scaled(own.batch / self.recipe.batch, self.recipe.optimizer)
        return replace(
            self.recipe, batch=own.batch, rate=rate, warmup=self.warmup / self.epochs,
            flip=own.flip, precision=own.precision, mixup=self.mixup * images,
            cutmix=self.cutmix * images,
        )  # fmt: skip

    def strong(self, own: Recipe, epochs: int | None = None, images: bool = True) -> Strong:
        """The whole recipe; images of a task of the user's own (`images` False) are not mixed."""
        mixed = 1.0 if images and (self.mixup or self.cutmix) else 0.0
        return Strong(
            epochs or self.epochs, self.brief(own, images=False), self.mixup, self.cutmix, mixed,
            self.average, temperature=self.temperature,
        )  # fmt: skip


def scaled(ratio: float, optimizer: str) -> float:
    """What a rate is multiplied by where the batch is `ratio` times the published one.

    >>> scaled(0.25, "sgd"), scaled(0.25, "lamb"), scaled(0.25, "adagrad")
    (0.25, 0.5, 1.0)
    """
    if optimizer in ("sgd", "nesterov"):
        return ratio
    return 1.0 if optimizer == "adagrad" else math.sqrt(ratio)


def published(name: str) -> Published:
    """The recipe of this name. Raises: NasError for another, with the nearest ones.

    >>> published("rsb-a2").epochs, published("convnext").brief(Recipe(batch=16)).rate
    (300, 0.00025)
    """
    if name not in PUBLISHED:
        raise unknown("published recipe", name, PUBLISHED)
    return PUBLISHED[name]


_WINDOWS = Recipe(crop=0.08, shift=0.0)  # as every training on ImageNet here sees images
_RSB = replace(
    _WINDOWS, batch=2048, optimizer="lamb", rate=5e-3, decay=0.02, smoothing=0.0, loss="binary",
    distort=7.0, repeats=3, drop_path=0.05,
)  # fmt: skip
_SIDES = "test images cut to 95 % of their side"

PUBLISHED: dict[str, Published] = {
    "bag-of-tricks": Published(
        "Bag of tricks (He et al. 2019, arXiv 1812.01187)",
        epochs=200,
        warmup=5,
        recipe=replace(
            _WINDOWS,
            batch=1024,
            optimizer="nesterov",
            rate=0.4,
            decay=1e-4,
            smoothing=0.1,
            clip=UNCLIPPED,
        ),
        mixup=0.2,
        temperature=20.0,
        absent=(
            "brightness, contrast and saturation changed by up to 40 %, noise along the colours' "
            "principal axes",
            "last norms that begin at zero: resnet's decision zero_gamma",
            "half precision: --precision bfloat16",
            "a ResNet-152-D as teacher: --teacher",
        ),
    ),
    "rsb-a1": Published(
        "ResNet strikes back, A1 (Wightman et al. 2021, arXiv 2110.00476)",
        epochs=600,
        warmup=5,
        recipe=replace(_RSB, decay=0.01, smoothing=0.1),
        mixup=0.2,
        cutmix=1.0,
        absent=(_SIDES,),
    ),
    "rsb-a2": Published(
        "ResNet strikes back, A2 (Wightman et al. 2021, arXiv 2110.00476)",
        epochs=300,
        warmup=5,
        recipe=_RSB,
        mixup=0.1,
        cutmix=1.0,
        absent=(_SIDES,),
    ),
    "rsb-a3": Published(
        "ResNet strikes back, A3 (Wightman et al. 2021, arXiv 2110.00476)",
        epochs=100,
        warmup=5,
        recipe=replace(_RSB, rate=8e-3, distort=6.0, repeats=1, drop_path=0.0),
        mixup=0.1,
        cutmix=1.0,
        absent=(_SIDES, "training at 160 pixels and testing at 224"),
    ),
    "convnext": Published(
        "ConvNeXt-T (Liu et al. 2022, arXiv 2201.03545)",
        epochs=300,
        warmup=20,
        recipe=replace(
            _WINDOWS,
            batch=4096,
            rate=4e-3,
            decay=0.05,
            smoothing=0.1,
            clip=UNCLIPPED,
            distort=9.0,
            erase=0.25,
            drop_path=0.1,
        ),
        mixup=0.8,
        cutmix=1.0,
        average=0.9999,
        absent=("stochastic depth of 0.4 and 0.5 for its S and B",),
    ),
    "resnet-rs": Published(
        "ResNet-RS-50 (Bello et al. 2021, arXiv 2103.07579)",
        epochs=350,
        warmup=5,
        recipe=replace(
            _WINDOWS,
            batch=4096,
            optimizer="sgd",
            rate=1.6,
            decay=4e-5,
            smoothing=0.1,
            clip=UNCLIPPED,
            distort=10.0,
            distort_spread=0.0,
            distort_chance=1.0,
            dropout=0.25,
        ),
        average=0.9999,
        absent=(
            "for its larger networks: distortions up to 15, dropout up to 0.4, stochastic depth "
            "of 0.1",
        ),
    ),
}
