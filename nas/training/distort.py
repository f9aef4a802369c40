"""What is done to training images beyond moving them: RandAugment's distortions, erased rectangles.

Both draw from the generator given, always the same count for a batch, and treat each image by its
own draws. The single operations are kornia's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kornia import enhance
from kornia.geometry.transform import warp_affine
from torch import Tensor

LAYERS = 2  # distortions in a row
MOST = 10.0  # magnitude at which each is strongest
AREA, ASPECT = (0.02, 1 / 3), 0.3  # of an erased rectangle
GREY = 0.5  # what comes in from outside of an image that is sheared, turned or moved

Distortion = Callable[[Tensor, Tensor, Tensor], Tensor]  # images, strength in [0, 1], sign


def distorted(
    images: Tensor, magnitude: float, spread: float, chance: float, generator: torch.Generator
) -> Tensor:
    """Images `(B, 3, H, W)` in [0, 1] after two random distortions each (RandAugment).

    Cubuk et al. 2020, in the form that timm calls increasing: a larger magnitude is more of every
    distortion. Magnitudes are drawn from a normal distribution, cut to [0, 10].

    Args:
        magnitude, spread: mean and deviation.
        chance: that one of the two is applied.
    """
    count = len(images)
    for _ in range(LAYERS):
        which = torch.randint(len(DISTORTIONS), (count,), generator=generator)
        applied = torch.rand(count, generator=generator) < chance
        drawn = magnitude + spread * torch.randn(count, generator=generator)
        strength = drawn.clamp(0.0, MOST) / MOST
        sign = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        out = images.clone()
        for number, distort in enumerate(DISTORTIONS.values()):
            rows = ((which == number) & applied).nonzero().flatten()
            if len(rows):
                out[rows] = distort(images[rows].contiguous(), strength[rows], sign[rows])
        images = out
    return images


def erased(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Normalised images, of some a random rectangle covered with noise (Zhong et al. 2020).

    A rectangle takes 2 % to a third of the area, its sides are as 0.3:1 to 1:0.3; one that would
    not fit is left out.
    """
    count, _, height, width = images.shape
    draw = torch.rand((5, count), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    area = (AREA[0] + (AREA[1] - AREA[0]) * draw[1]) * height * width
    aspect = torch.exp((2 * draw[2] - 1) * math.log(1 / ASPECT))
    tall, wide = ((area * a).sqrt().round() for a in (aspect, 1 / aspect))
    inside = (draw[0] < chance) & (tall < height) & (wide < width)
    top, left = ((draw[3] * (height - tall + 1)).floor(), (draw[4] * (width - wide + 1)).floor())
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    covered = in_rows[:, :, None] & in_columns[:, None, :] & inside[:, None, None]
    return torch.where(covered[:, None], noise, images)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _autocontrast(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """The darkest value of each channel to 0, the brightest to 1; an even one stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    wide = high > low
    return torch.where(wide, (images - low) / torch.where(wide, high - low, 1.0), images)


def _posterize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    kept: Tensor = enhance.posterize(images, 4 - (4 * strength).int())  # so many bits
    return kept


def _solarize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    threshold = (256 - (256 * strength).floor()) / 255  # beyond white where there is no strength
    return torch.where(images < _each(threshold), images, 1 - images)


def _solarize_add(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    brighter = (images + _each(110 / 255 * strength)).clamp(max=1.0)
    return torch.where(images < 0.5, brighter, images)


def _factor(strength: Tensor, sign: Tensor) -> Tensor:
    return (1 + 0.9 * sign * strength).clamp(min=0.1)


def _affine(images: Tensor, matrix: list[list[Tensor]]) -> Tensor:
    """Images moved by `(B, 2, 2)` about their middle, and by what comes third in each row."""
    height, width = images.shape[2:]
    given = torch.stack([torch.stack(row, 1) for row in matrix], 1).to(images)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    moved = given[:, :, 2] + centre - given[:, :, :2] @ centre
    whole = torch.cat([given[:, :, :2], moved[:, :, None]], 2)
    grey = torch.full((3,), GREY)
    found: Tensor = warp_affine(
        images, whole, (height, width), padding_mode="fill", fill_value=grey, align_corners=True
    )
    return found


def _rotate(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    angle, none = sign * strength * math.radians(30.0), torch.zeros_like(strength)
    return _affine(images, [[angle.cos(), -angle.sin(), none], [angle.sin(), angle.cos(), none]])


def _shear(along: int) -> Distortion:
    def shear(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
        none, one = torch.zeros_like(strength), torch.ones_like(strength)
        slant = 0.3 * sign * strength
        rows = [[one, slant, none], [none, one, none]]
        return _affine(images, rows if along == 0 else [[one, none, none], [slant, one, none]])

    return shear


def _translate(along: int) -> Distortion:
    def translate(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
        none, one = torch.zeros_like(strength), torch.ones_like(strength)
        way = 0.45 * sign * strength * images.shape[3 - along]
        x, y = (way, none) if along == 0 else (none, way)
        return _affine(images, [[one, none, x], [none, one, y]])

    return translate


DISTORTIONS: dict[str, Distortion] = {
    "autocontrast": _autocontrast,
    "equalize": lambda images, _, __: enhance.equalize(images),
    "invert": lambda images, _, __: 1 - images,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize add": _solarize_add,
    "colour": lambda images, by, sign: enhance.adjust_saturation_with_gray_subtraction(
        images, _factor(by, sign)
    ),
    "contrast": lambda images, by, sign: enhance.adjust_contrast_with_mean_subtraction(
        images, _factor(by, sign)
    ),
    "brightness": lambda images, by, sign: enhance.adjust_brightness_accumulative(
        images, _factor(by, sign)
    ),
    "sharpness": lambda images, by, sign: enhance.sharpness(images, _factor(by, sign)),
    "shear x": _shear(0),
    "shear y": _shear(1),
    "translate x": _translate(0),
    "translate y": _translate(1),
}
