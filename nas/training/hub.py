"""Image data sets of the Hugging Face hub, or saved by its `datasets` package in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.core.errors import NasError
from nas.training.listing import SPLITS, Listing, Read, listed


def of_hub(name: str, source: str) -> Listing:
    """The images of a data set on the hub, or of a folder that `datasets` wrote or can read.

    Needs the `datasets` extra; no code of the data set is run. A split without labels (-1) is left
    out. Raises: NasError where the package or the data set is missing, or where the data set has
    no column of images or of classes.
    """
    try:
        import datasets
    except ImportError as error:
        raise NasError(
            f"{source!r} needs the package 'datasets', which is not installed",
            "type pip install 'nas[datasets]'",
        ) from error
    tables = _tables(datasets, name, source)
    first = next(iter(tables.values()))
    image = _image_column(datasets, first, source)
    label = _label_column(datasets, first, image, source)
    rows: list[tuple[Any, int]] = []
    classes, splits, names = [], [], []
    content = hashlib.blake2b(digest_size=16)
    for key in sorted(tables):
        table = tables[key].cast_column(image, datasets.Image(decode=False))
        feature = table.features[label]
        for index, value in enumerate(table[label]):
            if isinstance(value, int) and value < 0:
                continue
            rows.append((table, index))
            names.append(f"{key}/{index:09d}")
            splits.append(SPLITS.get(key, ""))
            classes.append(feature.names[value] if hasattr(feature, "names") else str(value))
            content.update(hashlib.sha256(_bytes(table[index][image])).digest())
            content.update(classes[-1].encode() + b"\0")

    @contextmanager
    def opened() -> Iterator[Read]:
        yield lambda at: _bytes(rows[at][0][rows[at][1]][image])

    if len(set(splits)) == 1:
        splits = [""] * len(splits)
    return listed(names, classes, splits, source, content.hexdigest(), opened)


def _tables(datasets: Any, name: str, source: str) -> dict[str, Any]:
    """The splits of a data set by name. Only the splits that the project knows are read."""
    path = Path(name).expanduser()
    try:
        saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
        found = datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(name)
    except Exception as error:  # the package documents no set of what it raises
        raise NasError(
            f"the data set {source!r} cannot be loaded: {str(error).splitlines()[0][:200]}",
            "check the name on https://huggingface.co/datasets, or name a local folder",
        ) from error
    tables = {"train": found} if not isinstance(found, dict) else dict(found)
    known = {key: table for key, table in tables.items() if key in SPLITS}
    if "train" not in known:
        raise NasError(
            f"{source!r} has no split named train, only {', '.join(sorted(tables))}",
            "name a data set with a train split",
        )
    return known


def _image_column(datasets: Any, table: Any, source: str) -> str:
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            return str(name)
    raise NasError(
        f"{source!r} has no column of images, only {', '.join(table.features)}",
        "name a data set for image classification",
    )


def _label_column(datasets: Any, table: Any, image: str, source: str) -> str:
    features = {n: f for n, f in table.features.items() if n != image}
    for name, feature in features.items():
        if isinstance(feature, datasets.ClassLabel):
            return str(name)
    for name in ("label", "labels", "class", "fine_label"):
        if name in features:
            return name
    raise NasError(
        f"{source!r} has no column of classes, only {', '.join(features) or image}",
        "name a data set for image classification",
    )


def _bytes(cell: Any) -> bytes:
    held: bytes | None = cell["bytes"]
    return held if held is not None else Path(cell["path"]).read_bytes()
