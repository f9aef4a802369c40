"""RandAugment's distortions against Pillow's, and rectangles of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from nas.training.distort import AREA, DISTORTIONS, distorted, erased


def photo() -> np.ndarray:
    rows, columns = np.mgrid[0:24, 0:24]
    waves = [np.sin(rows / 3 + k) + np.cos(columns / (2 + k)) for k in range(3)]
    return np.stack([np.uint8(np.clip(120 + 45 * w, 0, 255)) for w in waves], 2)


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def of(name: str, strength: float, sign: float = 1.0) -> Tensor:
    found = DISTORTIONS[name](tensor(photo()), torch.tensor([strength]), torch.tensor([sign]))
    return found * 255


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    grey = (128, 128, 128)
    return image.transform(image.size, Image.Transform.AFFINE, matrix,
                           Image.Resampling.BILINEAR, fillcolor=grey)  # fmt: skip


BY_PILLOW = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
    "posterize": lambda i: ImageOps.posterize(i, 4 - 2),
    "solarize": lambda i: ImageOps.solarize(i, 256 - 128),
    "solarize add": lambda i: i.point([v + 55 if v < 128 else v for v in range(256)] * 3),
    "colour": lambda i: ImageEnhance.Color(i).enhance(1.45),
    "contrast": lambda i: ImageEnhance.Contrast(i).enhance(1.45),
    "brightness": lambda i: ImageEnhance.Brightness(i).enhance(1.45),
    "sharpness": lambda i: ImageEnhance.Sharpness(i).enhance(1.45),
    "rotate": lambda i: i.rotate(-15, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)),
    "translate x": lambda i: affine(i, (1, 0, -0.225 * 24, 0, 1, 0)),
    "translate y": lambda i: affine(i, (1, 0, 0, 0, 1, -0.225 * 24)),
}


@pytest.mark.parametrize("name", BY_PILLOW)
def test_half_of_each_distortion_is_pillows(name: str) -> None:
    wanted = tensor(np.asarray(BY_PILLOW[name](Image.fromarray(photo())))) * 255
    found = of(name, 0.5)
    inner = (..., slice(7, 17), slice(7, 17))  # borders are blended in other ways
    away = (found - wanted)[inner].abs()
    limit = 4.0 if name == "equalize" else 1.6  # Pillow rounds to bytes, and equalizes by table
    assert away.max() <= limit, float(away.max())


@pytest.mark.parametrize("way", ["x", "y"])
def test_a_shear_keeps_the_middle_and_slants_the_rest(way: str) -> None:
    ramp = torch.arange(17.0).expand(3, 17, 17) / 16
    images = (ramp if way == "x" else ramp.transpose(1, 2))[None].contiguous()
    found = DISTORTIONS[f"shear {way}"](images, torch.tensor([1.0]), torch.tensor([1.0]))
    found = found[0, 0] if way == "x" else found[0, 0].T
    assert torch.allclose(found[8, 4:13], ramp[0, 8, 4:13], atol=1e-5)
    assert torch.allclose(found[12, 8] * 16, torch.tensor(8 - 4 * 0.3), atol=1e-4)


def test_none_of_it_leaves_images_alone_and_much_changes_most() -> None:
    images = tensor(photo()).repeat(64, 1, 1, 1)
    numbers = torch.Generator().manual_seed(0)
    assert torch.equal(distorted(images, 9.0, 0.5, 0.0, numbers), images)
    found = distorted(images, 9.0, 0.5, 1.0, torch.Generator().manual_seed(0))
    again = distorted(images, 9.0, 0.5, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    assert found.min() >= 0 and found.max() <= 1
    changed = (found - images).abs().amax((1, 2, 3)) > 0.02
    assert changed.sum() >= 60
    half = distorted(images, 9.0, 0.5, 0.5, torch.Generator().manual_seed(1))
    share = ((half - images).abs().amax((1, 2, 3)) > 0.02).float().mean()
    assert 0.55 < share < 0.95  # three of four have one of two


def test_erased_rectangles() -> None:
    images = torch.full((400, 3, 32, 32), 9.0)
    found = erased(images, 0.25, torch.Generator().manual_seed(0))
    gone = (found != 9.0).all(1)
    touched = gone.any((1, 2))
    assert 0.17 < touched.float().mean() < 0.33
    for mask in gone[touched]:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()  # a full rectangle
        assert 0.7 * AREA[0] < mask.float().mean() < 1.1 * AREA[1]
    noise = found[(found != 9.0)]
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    assert torch.equal(erased(images, 0.0, torch.Generator()), images)
