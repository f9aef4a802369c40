"""Small image folders, and a cache of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Folder = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache / "nas"


@pytest.fixture
def image_folder(tmp_path: Path) -> Folder:
    """Makes a folder of PNGs: `image_folder({"cat": 8, "dog": 8}, size=(40, 30))`."""

    def make(
        counts: dict[str, int], size: tuple[int, int] = (32, 32), name: str = "images"
    ) -> Path:
        rng = np.random.default_rng(0)
        for place, count in counts.items():
            folder = tmp_path / name / place
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:03d}.png")
        return tmp_path / name

    return make
