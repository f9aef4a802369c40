import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.training.data import describe, in_triples, load, of_classes, split

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10.zip"


def test_digits():
    data = load("digits")
    assert data.images.shape == (1797, 32, 32, 3)
    assert data.images.dtype == np.uint8
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert (len(data.train), len(data.validation), len(data.test)) == (953, 485, 359)
    assert data.facts.classes == tuple("0123456789")
    # the well-known first image of the set is a zero: a ring, dark in the middle and outside
    assert data.labels[0] == 0
    ring = data.images[0, :, :, 0]
    assert ring[14:18, 14:18].max() < 40
    assert ring[14:18].max() > 100


def test_digits_are_the_same_everywhere():
    data = load("digits")
    assert data.facts.digest == describe("digits").digest == DIGITS_DIGEST
    assert data.validation[:6].tolist() == FIRST_VALIDATION


DIGITS_DIGEST = "f97d8a98ef7064696fdc443b22dc475f"
FIRST_VALIDATION = [1025, 328, 49, 150, 416, 617]


def test_splits_share_nothing_and_lose_nothing():
    data = load("digits")
    every = np.concatenate([data.train, data.validation, data.test])
    assert sorted(every.tolist()) == list(range(1797))


@given(st.lists(st.integers(5, 60), min_size=2, max_size=6))
def test_splits_are_stratified(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [str(i) for i in range(len(labels))]
    parts = split(names, labels, [""] * len(labels))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for share, part in zip((0.7, 0.15, 0.15), parts, strict=True):
        found = np.bincount(labels[part], minlength=len(counts))
        assert (found >= 1).all()
        assert (abs(found - share * np.array(counts)) <= 1.01).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_every_third_of_validation_is_stratified(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = in_triples(np.arange(len(labels)))
    assert sorted(order.tolist()) == list(range(len(labels)))
    kept = Counter(labels[order[::3]].tolist())
    for label, count in enumerate(counts):
        assert abs(kept[label] - count / 3) < 1


def test_given_splits_are_kept_and_validation_comes_out_of_train():
    labels = np.tile([0, 1], 500)
    given_splits = ["train"] * 900 + ["test"] * 100
    train, validation, test = split([str(i) for i in range(1000)], labels, given_splits)
    assert test.tolist() == list(range(900, 1000))
    assert len(validation) == 224  # a quarter of each class: fewer than 1,000 images
    assert set(validation.tolist()) | set(train.tolist()) == set(range(900))


def test_adding_images_moves_few():
    names = [f"{i}.png" for i in range(200)]
    labels = np.zeros(200, np.int64)
    before = set(split(names[:190], labels[:190], [""] * 190)[2].tolist())
    after = set(split(names, labels, [""] * 200)[2].tolist())
    assert len(before - after) <= 3


def test_a_folder(image_folder):
    folder = image_folder(
        {"train/cat": 20, "train/dog": 20, "test/cat": 3, "test/dog": 4}, (50, 40)
    )
    data = load(f"folder:{folder}")
    assert data.facts.input == (3, 32, 32)
    assert np.bincount(data.labels[data.test]).tolist() == [3, 4]
    assert np.bincount(data.labels[data.train]).tolist() == [15, 15]
    assert describe(f"folder:{folder}").digest == data.facts.digest
    assert describe(f"folder:{folder}", 64).digest != data.facts.digest
    assert load(f"folder:{folder}", 64).images.shape == (47, 64, 64, 3)


@pytest.mark.parametrize(
    ("source", "problem", "hint"),
    [
        ("digit", "no data named 'digit'", "did you mean 'digits'"),
        ("foldr:x", "no data named 'foldr:x'", "did you mean 'folder'"),
        ("folder:", "no path or name after the colon", "folder:NAME"),
        ("folder:nowhere/at/all", "no such path", ""),
    ],
)
def test_unknown_sources(source, problem, hint):
    with pytest.raises(NasError) as error:
        load(source)
    assert problem in error.value.problem
    assert hint in error.value.hint


def test_a_path_without_its_scheme(image_folder):
    folder = image_folder({"cat": 5, "dog": 5})
    with pytest.raises(NasError) as error:
        load(str(folder))
    assert f"folder:{folder}" in error.value.hint


def test_torch_is_not_imported():
    code = (
        "import sys; from nas.training import data, recipe, tasks; tasks.describe('digits'); "
        "tasks.brief_recipe('digits'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="cifar10.zip is not beside the checkout")
def test_cifar10():
    started = time.perf_counter()
    data = load(f"folder:{CIFAR}")
    first = time.perf_counter() - started
    assert data.images.shape == (60_000, 32, 32, 3)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert set(np.bincount(data.labels[data.validation[::3]]).tolist()) == {166, 167}
    load.cache_clear()
    started = time.perf_counter()
    again = load(f"folder:{CIFAR}")
    assert time.perf_counter() - started < first
    assert np.array_equal(again.images[::1000], data.images[::1000])


def test_some_classes_of_digits():
    whole = load("digits")
    late = of_classes(whole, ["5", "7", "9"])
    assert late.facts.classes == ("5", "7", "9") and late.facts.digest != whole.facts.digest
    for part in ("train", "validation", "test"):
        kept = getattr(late, part)
        expected = [i for i in getattr(whole, part) if whole.labels[i] in (5, 7, 9)]
        assert sorted(kept) == sorted(expected)
        assert set(late.labels[kept]) == {0, 1, 2}
    assert late.facts.images == int(np.isin(whole.labels, [5, 7, 9]).sum())
    confirming = Counter(late.labels[late.validation[::3]].tolist())
    assert max(confirming.values()) - min(confirming.values()) <= 4  # a third of each class
    with pytest.raises(NasError, match="no class named 'x'"):
        of_classes(whole, ["x"])
