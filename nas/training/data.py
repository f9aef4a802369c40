"""Labelled images with fixed, stratified splits: `digits`, a folder or archive, a hub's data set.

Needs numpy and Pillow, not torch. The search sees train and validation; test is for the final
report alone. Which image is in which split depends on its name and class only, so that it is the
same in every process, on every machine and after images are added.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.core.architecture import digest
from nas.core.errors import NasError, unknown
from nas.training import hub
from nas.training.listing import Listing, of_path
from nas.training.pixels import Bytes, decoded, squared, usual_size

Indices = NDArray[np.int64]
SCHEMES = ("digits", "folder:PATH", "hf:NAME")
DIGITS_SIZE = 32
_SPLITTING = 1  # part of the digest: raise it when the way of splitting changes


@dataclass(frozen=True)
class Facts:
    """What is known of labelled images before any is decoded."""

    source: str
    size: int
    classes: tuple[str, ...]
    images: int
    digest: str

    @property
    def input(self) -> tuple[int, int, int]:
        """Shape of one example, channels first."""
        return (3, self.size, self.size)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images of one size.

    Args:
        facts: source, size, classes and digest.
        images: `(N, size, size, 3)`, RGB, possibly mapped from a file.
        labels: `(N,)`, indices into the classes.
        train, validation, test: indices of images. Validation is ordered so that every third
            image (position % 3 == 0), the share kept for confirming a front, is itself stratified.
    """

    facts: Facts
    images: Bytes
    labels: Indices
    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class _Found:
    """A source that was looked at: its facts, what splits it, and how to get its pixels."""

    facts: Facts
    names: Sequence[str]
    labels: Sequence[int]
    splits: Sequence[str]
    shares: tuple[float, float]
    pixels: Callable[[], Bytes]


def describe(source: str, size: int | None = None) -> Facts:
    """The facts of `digits`, `folder:PATH` or `hf:NAME`; reads every byte, decodes no image.

    Raises: NasError where the source is unknown, absent or not laid out by class.
    """
    return _find(source, size).facts


@lru_cache(maxsize=2)
def load(source: str, size: int | None = None) -> Dataset:
    """The images of `digits`, `folder:PATH` (class folders, or train/ and test/; also a .zip) or
    `hf:NAME`, at `size` pixels a side (by default the usual size of the images, at most 224).

    The first load of a large source decodes it into a cache; later ones map the cache.
    Raises: NasError as `describe`, and for an image that cannot be read.
    """
    found = _find(source, size)
    labels = np.asarray(found.labels, np.int64)
    train, validation, test = split(found.names, labels, found.splits, found.shares)
    return Dataset(found.facts, found.pixels(), labels, train, validation, test)


def of_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The images of some classes, which are numbered anew in this order; splits stay as they were.

    Raises: NasError where there is no such class.
    """
    known = list(dataset.facts.classes)
    for name in classes:
        if name not in known:
            raise unknown("class", name, known)
    renamed = np.full(len(known), -1)
    renamed[[known.index(name) for name in classes]] = np.arange(len(classes))
    labels = renamed[dataset.labels]
    facts = replace(
        dataset.facts, classes=tuple(classes), images=int((labels >= 0).sum()),
        digest=digest([dataset.facts.digest, list(classes)]),
    )  # fmt: skip
    taken = {
        name: getattr(dataset, name)[labels[getattr(dataset, name)] >= 0]
        for name in ("train", "test")
    }
    validation = dataset.validation[labels[dataset.validation] >= 0]
    by_class = validation[np.argsort(labels[validation], kind="stable")]
    return replace(dataset, facts=facts, labels=labels, validation=in_triples(by_class), **taken)


def _find(source: str, size: int | None) -> _Found:
    scheme, colon, name = source.partition(":")
    if source == "digits":
        return _digits(size or DIGITS_SIZE)
    if scheme == "folder" and name:
        return _listed(of_path(Path(name).expanduser(), source), source, size)
    if scheme == "hf" and name:
        return _listed(hub.of_hub(name, source), source, size)
    if scheme in ("folder", "hf"):
        raise NasError(f"no path or name after the colon: {source!r}", f"type {scheme}:NAME")
    hint = unknown("data set", source if not colon else scheme, ("digits", "folder", "hf")).hint
    if Path(source).expanduser().exists():
        hint = f"did you mean 'folder:{source}'?"
    raise NasError(f"no data named {source!r}", f"{hint} (give {', '.join(SCHEMES)})")


def _digits(size: int) -> _Found:
    packed = io.BytesIO(files("nas.training").joinpath("digits.npz").read_bytes())
    with np.load(packed, allow_pickle=False) as arrays:
        grey, labels = arrays["images"], arrays["labels"]
    content = hashlib.blake2b(grey.tobytes() + labels.tobytes(), digest_size=16).hexdigest()

    def pixels() -> Bytes:
        full = (grey.astype(np.uint16) * 255 // 16).astype(np.uint8)
        return np.stack([squared(Image.fromarray(image), size) for image in full])

    names = [f"{i:04d}" for i in range(len(labels))]
    facts = _facts("digits", size, [str(d) for d in range(10)], len(names), content)
    # More validation than usual: with so few images, its noise is what hides a good network.
    return _Found(facts, names, labels.tolist(), [""] * len(names), (0.27, 0.20), pixels)


def _listed(listing: Listing, source: str, size: int | None) -> _Found:
    side = size or usual_size(listing)
    facts = _facts(source, side, listing.classes, len(listing.names), listing.digest)
    return _Found(
        facts, listing.names, listing.labels, listing.splits, (0.15, 0.15),
        lambda: decoded(listing, side),
    )  # fmt: skip


def _facts(source: str, size: int, classes: Sequence[str], images: int, content: str) -> Facts:
    mark = digest({"content": content, "size": size, "splitting": _SPLITTING})
    return Facts(source, size, tuple(classes), images, mark)


def split(
    names: Sequence[str],
    labels: Indices,
    given: Sequence[str],
    shares: tuple[float, float] = (0.15, 0.15),
) -> tuple[Indices, Indices, Indices]:
    """Train, validation and test as indices, each with the classes in proportion.

    Args:
        names: of the images; the hash of its name alone decides where in its class an image goes.
        labels: their classes.
        given: the split of each image where the source says it, "" where it does not.
        shares: validation's and test's share where the source gives no splits at all. Where it
            gives train and test only, validation is 10 % of train, or up to 25 % for 1,000 images.
    """
    places = np.asarray(given)
    train = _by_class(np.flatnonzero((places == "train") | (places == "")), names, labels)
    if (places == "").all():
        train, validation, test = _dealt(train, shares)
    else:
        test = _by_class(np.flatnonzero(places == "test"), names, labels)
        validation = _by_class(np.flatnonzero(places == "validation"), names, labels)
        if not validation:
            total = sum(map(len, train))
            train, validation, _ = _dealt(train, (max(0.10, min(0.25, 1000 / total)), 0.0))
    return (
        np.sort(np.concatenate(train)),
        in_triples(np.concatenate(validation)),
        np.sort(np.concatenate(test)),
    )


def _by_class(indices: Indices, names: Sequence[str], labels: Indices) -> list[Indices]:
    """The indices of each class, ordered by the hash of the image's name."""
    marks = {int(i): hashlib.blake2b(names[i].encode(), digest_size=8).digest() for i in indices}
    groups = [indices[labels[indices] == c] for c in np.unique(labels[indices])]
    return [np.array(sorted(map(int, g), key=marks.__getitem__), np.int64) for g in groups]


def _dealt(
    groups: list[Indices], shares: tuple[float, float]
) -> tuple[list[Indices], list[Indices], list[Indices]]:
    """Each class cut into train, validation and test; a share above 0 gets at least one."""
    train, validation, test = [], [], []
    for group in groups:
        v, t = (max(1, round(len(group) * share)) if share else 0 for share in shares)
        validation.append(group[:v])
        test.append(group[v : v + t])
        train.append(group[v + t :])
    return train, validation, test


def in_triples(indices: Indices) -> Indices:
    """Indices sorted by class, reordered in triples so that any prefix sees all classes.

    Three neighbours stay together, so the images at positions 0, 3, 6, ... have every class in
    the proportion in which it came, to within one image.

    >>> in_triples(np.arange(12)).tolist()
    [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11]
    """
    whole = len(indices) // 3 * 3
    triples = indices[:whole].reshape(-1, 3)
    stride = max(1, round(len(triples) ** 0.5))
    order = np.concatenate([np.arange(start, len(triples), stride) for start in range(stride)])
    return np.concatenate([triples[order].reshape(-1), indices[whole:]])
