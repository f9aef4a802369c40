"""Image files to one array of one size, decoded once and kept in a cache.

What happens to an image is what the shipped `infer.py` does again on the user's machine: to RGB,
the shorter side to `size` (bilinear, antialiased), the middle square kept.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nas.core.errors import NasError
from nas.core.folders import cache_folder
from nas.training.listing import Listing, Read

Bytes = NDArray[np.uint8]
PIXELS = 50_000_000
TOTAL_BYTES = 64 * 2**30
SMALLEST, LARGEST, MULTIPLE = 32, 224, 32
_SAMPLE = 500
_CHUNK = 1024
_VERSION = 2


def usual_size(listing: Listing) -> int:
    """The side that most images are nearest to, a multiple of 32 from 32 to 224.

    Judged by the shorter side of up to 500 images spread evenly over the source.
    """
    every = max(1, len(listing.names) // _SAMPLE)
    sides: Counter[int] = Counter()
    with listing.opened() as read:
        for index in range(0, len(listing.names), every):
            with _image(read, listing, index) as image:
                nearest = MULTIPLE * round(min(image.size) / MULTIPLE)
                sides[min(LARGEST, max(SMALLEST, nearest))] += 1
    return max(sides, key=lambda side: (sides[side], side))


def decoded(listing: Listing, size: int) -> Bytes:
    """Every image of the listing as `(N, size, size, 3)`, through the cache.

    A cache that cannot be written (no room, no permission) costs time, not the run: the images are
    decoded into memory. Raises: NasError naming the first image that cannot be read.
    """
    shape = (len(listing.names), size, size, 3)
    if np.prod(shape, dtype=np.int64) > TOTAL_BYTES:
        raise NasError(
            f"{shape[0]:,} images of {size}x{size} take more than {TOTAL_BYTES:,} bytes decoded",
            "take fewer or smaller images",
        )
    path = cache_folder() / f"{listing.digest}-{size}-v{_VERSION}.npy"
    images = _cached(path, shape)
    if images is None and _keep(path, listing, shape):
        images = _cached(path, shape)
    if images is None:
        images = np.concatenate(list(_chunks(listing, size)))
    return images


def _cached(path: Path, shape: tuple[int, ...]) -> Bytes | None:
    """The cached array mapped into memory (so that processes share it), or None."""
    try:
        images: Bytes = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _keep(path: Path, listing: Listing, shape: tuple[int, ...]) -> bool:
    """Decodes into the cache; False where the disk does not take it.

    Written as a file, not through a mapping: a full disk is then an error and not a signal.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for chunk in _chunks(listing, shape[1]):
                    file.write(chunk.data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _chunks(listing: Listing, size: int) -> Iterator[Bytes]:
    total = len(listing.names)
    with listing.opened() as read:
        for start in range(0, total, _CHUNK):
            block = np.empty((min(_CHUNK, total - start), size, size, 3), np.uint8)
            for offset in range(len(block)):
                with _image(read, listing, start + offset) as image:
                    block[offset] = squared(image, size)
            yield block


@contextmanager
def _image(read: Read, listing: Listing, index: int) -> Iterator[Image.Image]:
    """One image, its size checked before it is decoded. Raises: NasError naming it."""
    name = listing.names[index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(read(index))) as image:
                if image.width * image.height > PIXELS:
                    raise NasError(
                        f"the image {name} has {image.width}x{image.height} pixels; "
                        f"at most {PIXELS:,} are decoded",
                        "shrink it or take it out",
                    )
                yield image
        except _UNREADABLE as error:
            raise NasError(
                f"the image {name} cannot be read: {_plain(error)}", "repair it or take it out"
            ) from error


# What Pillow and zipfile raise on broken bytes, as their sources show.
_UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, struct.error,
    OverflowError, MemoryError, NotImplementedError, zlib.error, zipfile.BadZipFile,
    Image.DecompressionBombError,
)  # fmt: skip


def _plain(error: BaseException) -> str:
    text = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """The image as its camera was held; one whose EXIF cannot be read is taken as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError,
            OverflowError, struct.error, AttributeError):  # fmt: skip
        return image


def squared(image: Image.Image, size: int) -> Bytes:
    """`(size, size, 3)` of an image: upright, RGB, the shorter side to `size`, the middle square.

    As `nas/deploy/infer.py` prepares one, which must do without this module.
    Raises: ValueError where its numbers have more than 16 bits, and nobody says what white is.
    """
    image = _upright(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have 32 bits; save it with 8 or 16")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are fractions; save it with 8 or 16 bits")
    if image.mode != "RGB":
        image = image.convert("RGB")
    width, height = image.size
    side = min(width, height)
    if (width, height) != (size, size):
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)
