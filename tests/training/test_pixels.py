import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.core.errors import NasError
from nas.training import pixels
from nas.training.listing import of_path
from nas.training.pixels import cache_folder, decoded, squared, usual_size


def test_squared_keeps_an_image_of_the_size():
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    assert np.array_equal(squared(image, 4), np.asarray(image))


def test_squared_takes_the_middle():
    array = np.zeros((10, 30, 3), np.uint8)
    array[:, 10:20] = 200
    assert (squared(Image.fromarray(array), 10) == 200).all()
    assert (squared(Image.fromarray(array.transpose(1, 0, 2)), 10) == 200).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    array = np.full((8, 8), 51 * 256, np.uint16) if mode == "I;16" else None
    image = Image.new("L", (8, 8), 51).convert(mode) if array is None else Image.fromarray(array)
    found = squared(image, 8)
    assert found.shape == (8, 8, 3)
    if mode in ("L", "LA", "RGBA", "P", "I;16"):
        assert (found == 51).all()


@pytest.mark.parametrize(
    ("size", "usual"),
    [((8, 8), 32), ((28, 28), 32), ((100, 140), 96), ((224, 240), 224), ((300, 260), 224)],
)
def test_usual_size(image_folder, size, usual):
    assert usual_size(of_path(image_folder({"cat": 5, "dog": 5}, size), "x")) == usual


def test_decoded_once(image_folder, monkeypatch: pytest.MonkeyPatch):
    listing = of_path(image_folder({"cat": 5, "dog": 5}, (20, 32)), "x")
    first = decoded(listing, 32)
    assert [p.suffix for p in cache_folder().iterdir()] == [".npy"]
    monkeypatch.setattr(pixels, "_chunks", lambda *_: pytest.fail("decoded twice"))
    assert np.array_equal(decoded(listing, 32), first)
    with listing.opened() as read:
        image = Image.open(io.BytesIO(read(3)))
        assert np.array_equal(first[3], squared(image, 32))


def test_a_cut_cache_is_made_again(image_folder):
    listing = of_path(image_folder({"cat": 5, "dog": 5}), "x")
    first = decoded(listing, 32).copy()
    [path] = cache_folder().iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert np.array_equal(decoded(listing, 32), first)


def test_without_a_cache(image_folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made in a file
    listing = of_path(image_folder({"cat": 5, "dog": 5}), "x")
    assert decoded(listing, 32).shape == (10, 32, 32, 3)


def test_a_full_disk_costs_the_cache_only(image_folder, monkeypatch: pytest.MonkeyPatch):
    listing = of_path(image_folder({"cat": 5, "dog": 5}), "x")
    whole = decoded(listing, 32).copy()
    [path] = cache_folder().iterdir()
    path.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    assert np.array_equal(decoded(listing, 32), whole)
    assert not os.listdir(cache_folder())


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(image_folder, content):
    folder = image_folder({"cat": 5, "dog": 5})
    (folder / "dog" / "003.png").write_bytes(content)
    with pytest.raises(NasError, match=r"the image dog/003\.png cannot be read"):
        decoded(of_path(folder, "x"), 32)
    assert not os.listdir(cache_folder())


def test_a_cut_image_is_named(image_folder):
    folder = image_folder({"cat": 5, "dog": 5})
    image = folder / "cat" / "002.png"
    image.write_bytes(image.read_bytes()[:-500])
    with pytest.raises(NasError, match=r"the image cat/002\.png cannot be read"):
        decoded(of_path(folder, "x"), 32)


def test_a_decompression_bomb_is_refused_by_its_header(image_folder):
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    folder = image_folder({"cat": 5, "dog": 5})
    (folder / "cat" / "000.png").write_bytes(bomb)
    with pytest.raises(NasError, match=r"cat/000\.png"):
        decoded(of_path(folder, "x"), 32)


def test_too_many_pixels_are_refused(image_folder, monkeypatch: pytest.MonkeyPatch):
    listing = of_path(image_folder({"cat": 5, "dog": 5}), "x")
    monkeypatch.setattr(pixels, "PIXELS", 1000)
    with pytest.raises(NasError, match="32x32 pixels; at most 1,000"):
        decoded(listing, 32)
    monkeypatch.setattr(pixels, "TOTAL_BYTES", 1000)
    with pytest.raises(NasError, match="take more than 1,000 bytes"):
        decoded(listing, 32)
