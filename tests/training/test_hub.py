"""The `datasets` package is an extra: its part is played by tables with the same few methods."""

import io
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as Picture

from nas.core.errors import NasError
from nas.training.data import load
from nas.training.hub import of_hub


class Image:
    def __init__(self, decode=True):
        self.decode = decode


class ClassLabel:
    def __init__(self, names):
        self.names = names


class Value:
    pass


class Table:
    def __init__(self, features, columns):
        self.features, self.columns = features, columns

    def cast_column(self, name, feature):
        return Table({**self.features, name: feature}, self.columns)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}


def _png(value):
    file = io.BytesIO()
    Picture.fromarray(np.full((8, 8), value, np.uint8)).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def _table(labels, start=0):
    columns = {"image": [_png(start + i) for i in range(len(labels))], "label": labels}
    return Table({"image": Image(), "label": ClassLabel(["cat", "dog"])}, columns)


@pytest.fixture
def hub(monkeypatch):
    """The package, and what it finds: `hub({...})`."""
    package = ModuleType("datasets")
    monkeypatch.setitem(sys.modules, "datasets", package)
    package.Image, package.ClassLabel = Image, ClassLabel

    def holds(found):
        def load_dataset(name):
            if isinstance(found, Exception):
                raise found
            return found

        package.load_dataset = load_dataset
        package.load_from_disk = lambda path: found

    return holds


def test_splits_and_classes(hub):
    hub({"train": _table([0, 1] * 20), "test": _table([0, 1, 1], 100), "unsupervised": _table([0])})
    data = load("hf:pets")
    assert data.facts.classes == ("cat", "dog")
    assert len(data.images) == 43
    assert sorted(data.images[data.test][:, 0, 0, 0].tolist()) == [100, 101, 102]


def test_a_saved_folder(hub, tmp_path):
    (tmp_path / "state.json").write_text("{}")
    hub(_table([0, 1] * 10))
    listing = of_hub(str(tmp_path), "hf:x")
    assert set(listing.splits) == {""}
    assert len(listing.names) == 20


def test_a_test_split_without_labels_is_left_out(hub):
    hub({"train": _table([0, 1] * 20), "test": _table([-1, -1])})
    assert len(of_hub("pets", "hf:pets").names) == 40


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (ValueError("no such thing\nat all"), "cannot be loaded: no such thing\n"),
        ({"all": _table([0, 1])}, "no split named train, only all"),
        ({"train": Table({"text": Value()}, {})}, "no column of images, only text"),
        (
            {"train": Table({"image": Image(), "box": Value()}, {})},
            "no column of classes, only box",
        ),
    ],
)
def test_what_cannot_be_used(hub, found, problem):
    hub(found)
    with pytest.raises(NasError, match=problem):
        of_hub("pets", "hf:pets")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(NasError, match="which is not installed") as error:
        load("hf:cifar10")
    assert error.value.hint == "type pip install 'nas[datasets]'"
