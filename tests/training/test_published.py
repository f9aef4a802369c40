"""Published recipes: their figures, at another batch, and that each trains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.core.errors import NasError
from nas.training.classification import binary, image_classification
from nas.training.data import load
from nas.training.finish import finish
from nas.training.mixing import mixing
from nas.training.published import PUBLISHED, published
from nas.training.recipe import Recipe, Strong

# epochs, warm-up, optimizer, batch, rate, decay, smoothing, mixup, cutmix, erasing, drop path,
# decay of the average
TABLE = {
    "bag-of-tricks": (200, 5, "nesterov", 1024, 0.4, 1e-4, 0.1, 0.2, 0.0, 0.0, 0.0, 0.0),
    "rsb-a1": (600, 5, "lamb", 2048, 5e-3, 0.01, 0.1, 0.2, 1.0, 0.0, 0.05, 0.0),
    "rsb-a2": (300, 5, "lamb", 2048, 5e-3, 0.02, 0.0, 0.1, 1.0, 0.0, 0.05, 0.0),
    "rsb-a3": (100, 5, "lamb", 2048, 8e-3, 0.02, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0),
    "convnext": (300, 20, "adamw", 4096, 4e-3, 0.05, 0.1, 0.8, 1.0, 0.25, 0.1, 0.9999),
    "resnet-rs": (350, 5, "sgd", 4096, 1.6, 4e-5, 0.1, 0.0, 0.0, 0.0, 0.0, 0.9999),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_figures(name: str) -> None:
    found = published(name)
    r = found.recipe
    assert TABLE[name] == (
        found.epochs, found.warmup, r.optimizer, r.batch, r.rate, r.decay, r.smoothing, found.mixup,
        found.cutmix, r.erase, r.drop_path, found.average,
    )  # fmt: skip
    assert r.loss == ("binary" if name.startswith("rsb") else "cross-entropy")
    assert r.repeats == (3 if name in ("rsb-a1", "rsb-a2") else 1)
    assert found.absent
    strong = found.strong(Recipe(batch=r.batch))
    assert strong.plain.rate == r.rate and strong.epochs == found.epochs
    assert strong.plain.rate_at(found.warmup / found.epochs) == pytest.approx(r.rate)
    assert Strong.from_json(strong.to_json()) == strong


def test_rates_at_another_batch() -> None:
    assert published("resnet-rs").brief(Recipe(batch=256)).rate == pytest.approx(0.1)
    assert published("rsb-a2").brief(Recipe(batch=32)).rate == pytest.approx(5e-3 / 8)


def test_the_data_says_whether_images_are_mirrored() -> None:
    digits, photos = Recipe(flip=False), Recipe(flip=True, precision="bfloat16")
    assert not published("convnext").brief(digits).flip
    assert published("convnext").brief(photos).flip
    assert published("convnext").brief(photos).precision == "bfloat16"


def test_an_own_task_is_not_mixed() -> None:
    assert published("convnext").strong(Recipe(), images=False).mixed == 0.0
    assert published("resnet-rs").strong(Recipe()).mixed == 0.0


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(NasError) as caught:
        published("rsb-a4")
    assert "rsb-a1" in caught.value.hint


def test_both_classes_of_a_mixture_are_asked_for() -> None:
    recipe = published("rsb-a2").strong(Recipe())
    outputs = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 1])
    seen = []

    def loss(module: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
        seen.append((module(inputs), target))
        return binary(module(inputs), target, 0.0)

    torch.manual_seed(0)
    found = mixing(recipe).criterion(loss)(outputs, images, labels)
    [(output, target)] = seen
    wanted = torch.zeros(4, 3)
    for row, classes in zip(wanted, target, strict=True):
        row[classes] = 1.0
    assert target.shape == (4, 2) and torch.equal(target[:, 0], labels)
    expected = functional.binary_cross_entropy_with_logits(output, wanted)
    assert found.item() == pytest.approx(expected.item())


def test_smoothed_binary_targets() -> None:
    output, target = torch.randn(3, 4), torch.tensor([0, 3, 2])
    wanted = torch.full((3, 4), 0.1 / 4)
    wanted[range(3), target] += 0.9
    expected = functional.binary_cross_entropy_with_logits(output, wanted)
    assert binary(output, target, 0.1).item() == pytest.approx(expected.item())


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_each_trains(name: str, tmp_path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = published(name).strong(Recipe(batch=64, flip=False), epochs=1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.0), nn.Linear(8, 10),
    )  # fmt: skip
    before = [p.detach().clone() for p in module.parameters()]
    task = image_classification(load("digits"), recipe.plain)
    done = finish(module, task, recipe, 0, kept=tmp_path / "kept.safetensors",
                  on_epoch=lambda e: None)  # fmt: skip
    after = list(done.parameters())
    assert all(bool(torch.isfinite(p).all()) for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
