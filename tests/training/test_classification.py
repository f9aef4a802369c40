import numpy as np
import pytest
import torch

from nas.core.errors import NasError
from nas.training.classification import augmented, image_classification
from nas.training.data import load
from nas.training.recipe import Recipe, brief


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def task(digits):
    return image_classification(digits, brief("digits", 1797))


def test_facts(task, digits):
    assert task.input == (3, 32, 32)
    assert task.outputs == len(task.classes) == 10
    assert task.digest == digits.facts.digest


def test_same_seed_same_batches(task):
    one, same, other = (list(task.batches("train", seed)) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) and torch.equal(s, t)
               for (a, s), (b, t) in zip(one, same, strict=True))  # fmt: skip
    assert not torch.equal(one[0][0], other[0][0])


def test_an_epoch_sees_each_image_once_but_for_the_last_batch(task, digits):
    batches = task.batches("train", 0)
    assert len(batches) == len(list(batches)) == 953 // 16
    recipe = Recipe(batch=953, shift=0.0, flip=False)
    [(_, target)] = image_classification(digits, recipe).batches("train", 3)
    assert torch.equal(target.sort()[0], torch.from_numpy(digits.labels[digits.train]).sort()[0])


def test_validation_is_in_order_and_as_it_is(task, digits):
    inputs, targets = map(torch.cat, zip(*task.batches("validation", 5), strict=True))
    assert targets.tolist() == digits.labels[digits.validation].tolist()
    mean, std = (np.array(task.normalisation[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    image = digits.images[digits.validation[200]].transpose(2, 0, 1) / 255
    assert np.allclose(inputs[200], (image - mean) / std, atol=1e-5)
    again = torch.cat([x for x, _ in task.batches("validation", 6)])
    assert torch.equal(inputs, again)


def test_training_inputs_are_normalised(digits):
    plain = image_classification(digits, Recipe(batch=953, shift=0.0, flip=False))
    [(inputs, _)] = plain.batches("train", 0)
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(inputs.std((0, 2, 3)), torch.ones(3), atol=1e-2)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_the_score_is_one_for_each_right_answer(task):
    output = torch.eye(10)[[3, 1, 0]]
    assert task.score(output, torch.tensor([3, 2, 0])).tolist() == [1, 0, 1]


def test_smoothing(digits):
    output, target = torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    for smoothing in (0.0, 0.2):
        loss = image_classification(digits, Recipe(smoothing=smoothing)).loss(output, target)
        wanted = torch.full((4, 10), smoothing / 10)
        wanted[range(4), target] += 1 - smoothing
        assert torch.allclose(loss, -(wanted * output.log_softmax(1)).sum(1).mean())


def test_unknown_split(task):
    with pytest.raises(NasError, match="no split named 'tset'"):
        task.batches("tset", 0)


def _ramp(size: int = 16) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack([rows, columns, rows + columns]).float().expand(64, -1, -1, -1).clone()


def test_without_augmentation_images_stay():
    images = _ramp()
    recipe = Recipe(flip=False, shift=0.0)
    assert torch.equal(augmented(images, recipe, torch.Generator()), images)


def test_flips_mirror_about_half_of_the_images():
    images = _ramp()
    found = augmented(images, Recipe(shift=0.0), torch.Generator().manual_seed(0))
    flipped = [torch.equal(f, i.flip(2)) for f, i in zip(found, images, strict=True)]
    kept = [torch.equal(f, i) for f, i in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 20 <= sum(flipped) <= 44


def test_moves_are_whole_pixels_within_reach():
    images = _ramp()
    found = augmented(images, Recipe(flip=False, shift=0.25), torch.Generator().manual_seed(0))
    moved = images[:, :, 8, 8] - found[:, :, 8, 8]  # rows and columns say where a pixel came from
    assert torch.equal(moved, moved.round())
    assert moved[:, :2].abs().max() == 4
    assert torch.equal(moved[:, 2], moved[:, 0] + moved[:, 1])


def test_mirrored_warps_agree_with_mirrored_moves():
    images = _ramp()
    warped = augmented(images, Recipe(shift=0.0, zoom=1e-9), torch.Generator().manual_seed(3))
    moved = augmented(images, Recipe(shift=0.0), torch.Generator().manual_seed(3))
    assert torch.allclose(warped, moved, atol=1e-3)


def test_a_turn_keeps_the_middle_and_the_distance_from_it():
    images = _ramp(17)
    recipe = Recipe(flip=False, shift=0.0, rotate=20.0)
    found = augmented(images, recipe, torch.Generator().manual_seed(0))
    assert torch.allclose(found[:, :2, 8, 8], torch.full((64, 2), 8.0), atol=1e-3)
    came = found[:, :2, 8, 12] - 8  # four pixels right of the middle
    assert torch.allclose(came.norm(dim=1), torch.full((64,), 4.0), atol=1e-2)
    angles = torch.rad2deg(torch.atan2(came[:, 0], came[:, 1]))
    assert 15 < angles.abs().max() <= 20.01
