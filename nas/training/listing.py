"""Which images a source holds, of which class, in which split; nothing is decoded here.

A folder and a zip archive become a `Listing` here, a data set of the `datasets` package in
`nas.training.hub`. An archive is read in place: nothing in it is ever written to disk, its names
are checked, and every read is bounded.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nas.core.errors import NasError, unknown

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test",
          "val": "validation", "valid": "validation", "validation": "validation"}  # fmt: skip
MEMBERS = 2_000_000
IMAGE_BYTES = 64 * 2**20
FEWEST = 5
LAYOUT = "lay it out as CLASS/image.jpg, or train/CLASS/image.jpg and test/CLASS/image.jpg"

Read = Callable[[int], bytes]


@dataclass(frozen=True)
class Listing:
    """The image files of a source.

    Args:
        names: one for each image, unique, ascending.
        labels: index into `classes`, one for each image.
        splits: "train", "validation" or "test" for each image; "" where the source does not say.
        classes: names, ascending.
        digest: hash of the content of the source, undecoded.
        opened: a context manager that gives `read(index) -> bytes`.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    digest: str
    opened: Callable[[], AbstractContextManager[Read]]


def of_path(path: Path, source: str) -> Listing:
    """The images of a folder or a zip archive.

    Raises: NasError where there is no such path, no image in it, one class only, a class with too
    few images, or an archive that is none or that cannot be trusted.
    """
    try:
        if path.is_dir():
            return _of_folder(path, source)
        if path.is_file():
            return _of_archive(path, source)
    except OSError as error:
        raise NasError(
            f"cannot read {error.filename or path}: {error.strerror or error}",
            f"check the permissions of what {source!r} names",
        ) from error
    raise missing(path, source)


def missing(path: Path, source: str) -> NasError:
    """The error for a path that is not there, with the nearest one that is."""
    parent = path.parent
    if parent.is_dir():
        near = unknown("file or folder", path.name, (p.name for p in parent.iterdir()))
        return NasError(f"no such path: {path} (from {source!r})", near.hint)
    return NasError(f"no such path: {path} (from {source!r})", f"there is no {parent} either")


def _of_folder(path: Path, source: str) -> Listing:
    files: dict[str, Path] = {}
    folders = []
    for found in path.rglob("*"):
        name = found.relative_to(path).as_posix()
        if _hidden(name):
            continue
        if found.is_dir():
            folders.append(name)
        elif found.suffix.lower() in SUFFIXES and found.is_file():
            files[name] = found
    names = sorted(files)
    content = hashlib.blake2b(digest_size=16)
    for name in names:
        content.update(name.encode() + b"\0" + hashlib.sha256(_bytes(files[name])).digest())

    @contextmanager
    def opened() -> Iterator[Read]:
        yield lambda index: _bytes(files[names[index]])

    return arranged(names, folders, source, content.hexdigest(), opened)


def _bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > IMAGE_BYTES:
        raise too_large(str(path), size)
    return path.read_bytes()


def too_large(name: str, size: int) -> NasError:
    """The error for an image file over the bound."""
    return NasError(
        f"the image {name} takes {size:,} bytes; at most {IMAGE_BYTES:,} are read",
        "shrink it or take it out",
    )


def _of_archive(path: Path, source: str) -> Listing:
    members = _members(path, source)
    names = sorted(n for n in members if PurePosixPath(n).suffix.lower() in SUFFIXES)
    folders = [n.rstrip("/") for n in members if n.endswith("/")]
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()[:32]

    @contextmanager
    def opened() -> Iterator[Read]:
        with zipfile.ZipFile(path) as archive:

            def read(index: int) -> bytes:
                with archive.open(members[names[index]]) as member:
                    return member.read(IMAGE_BYTES)

            yield read

    return arranged(names, folders, source, content, opened)


def _members(path: Path, source: str) -> dict[str, zipfile.ZipInfo]:
    """What an archive holds, by name. Raises: NasError where it cannot be trusted."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeError) as error:
        raise NasError(
            f"not a zip archive that can be read: {path} ({error})",
            f"{source.partition(':')[0]}: takes a folder or a .zip of one",
        ) from error
    if len(infos) > MEMBERS:
        raise NasError(
            f"{path} has {len(infos):,} members; at most {MEMBERS:,} are read",
            "split it, or unpack it and name the folder",
        )
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise NasError(
                f"{path} names a file outside itself: {name!r}", "pack it again, from inside"
            )
        if _hidden(name) or name.startswith("__MACOSX/"):
            continue
        if info.flag_bits & 1:
            raise NasError(f"{path} is encrypted: {name!r}", "pack it again without a password")
        if name in members:
            raise NasError(f"{path} holds {name!r} twice", "pack it again")
        if info.file_size > IMAGE_BYTES and PurePosixPath(name).suffix.lower() in SUFFIXES:
            raise too_large(f"{name} of {path}", info.file_size)
        members[name] = info
    return members


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def arranged(
    names: Sequence[str],
    folders: Iterable[str],
    source: str,
    digest: str,
    opened: Callable[[], AbstractContextManager[Read]],
) -> Listing:
    """The listing of these file names (ascending), classes and splits read off their folders."""
    if not names:
        raise NasError(f"no image in {source!r}", LAYOUT)
    parts = [PurePosixPath(name).parts for name in names]
    outer = {p[0] for p in parts}
    wrapped = len(outer) == 1 and all(len(p) > 2 for p in parts) and not outer & set(SPLITS)
    if wrapped:
        parts = [p[1:] for p in parts]
    split = any(SPLITS.get(p[0]) == "train" and len(p) > 2 for p in parts)
    for name, p in zip(names, parts, strict=True):
        if len(p) < 2 + split:
            raise NasError(f"the image {name} of {source!r} lies in no class folder", LAYOUT)
        if split and p[0] not in SPLITS:
            raise NasError(
                f"the image {name} of {source!r} lies beside train/, not in it or in test/", LAYOUT
            )
    for folder in sorted(folders):
        inside = PurePosixPath(folder).parts[wrapped:]
        in_split = not split or (bool(inside) and inside[0] in SPLITS)
        if len(inside) == 1 + split and in_split and not _any_below(names, folder + "/"):
            raise NasError(f"no image in the class folder {folder} of {source!r}", LAYOUT)
    return listed(
        names,
        [p[split] for p in parts],
        [SPLITS[p[0]] if split else "" for p in parts],
        source,
        digest,
        opened,
    )


def _any_below(names: Sequence[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def listed(
    names: Sequence[str],
    classes: Sequence[str],
    splits: Sequence[str],
    source: str,
    digest: str,
    opened: Callable[[], AbstractContextManager[Read]],
) -> Listing:
    """The listing of images whose class and split are known, checked.

    Where a source has a validation split and no test split, as is the custom of several public
    data sets, its validation split is the test split here, and validation is a share of train.

    Raises: NasError for one class only, a class with too few images, a class that is in test and
    not in train, or no test split.
    """
    if "train" in splits and "test" not in splits:
        splits = ["test" if split == "validation" else split for split in splits]
    known = sorted(set(classes))
    if len(known) < 2:
        raise NasError(f"{source!r} has one class only: {known[0]!r}", "give at least two classes")
    if "train" in splits and "test" not in splits:
        raise NasError(f"{source!r} has train/ and no test/", LAYOUT)
    training = Counter(c for c, s in zip(classes, splits, strict=True) if s in ("", "train"))
    for name in known:
        if name not in training:
            raise NasError(
                f"the class {name!r} of {source!r} is never in train", "add images or take it out"
            )
        if training[name] < FEWEST:
            raise NasError(
                f"the class {name!r} of {source!r} has {training[name]} images to train on",
                f"give at least {FEWEST} of each class",
            )
    index = {name: i for i, name in enumerate(known)}
    labels = tuple(index[c] for c in classes)
    return Listing(tuple(names), labels, tuple(splits), tuple(known), digest, opened)
