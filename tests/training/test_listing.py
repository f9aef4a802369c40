import shutil
import zipfile
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.training import listing
from nas.training.listing import arranged, of_path


def _arranged(names, folders=()):
    return arranged(sorted(names), folders, "folder:x", "digest", lambda: None)


def _names(*places, count=5):
    return [f"{place}/{i}.png" for place in places for i in range(count)]


def test_class_folders():
    found = _arranged(_names("cat", "dog/young"))
    assert found.classes == ("cat", "dog")
    assert found.labels == (0,) * 5 + (1,) * 5
    assert set(found.splits) == {""}


def test_train_and_test():
    found = _arranged(_names("train/cat", "train/dog", "test/cat", "val/dog"))
    assert set(found.splits) == {"train", "test", "validation"}
    assert found.classes == ("cat", "dog")


def test_validation_without_test_is_the_test_split():
    found = _arranged(_names("train/cat", "train/dog", "val/cat"))
    assert set(found.splits) == {"train", "test"}


def test_one_folder_around_everything_is_ignored():
    found = _arranged(_names("photos/train/cat", "photos/train/dog", "photos/test/dog"))
    assert found.classes == ("cat", "dog")
    assert set(found.splits) == {"train", "test"}


def test_a_class_called_train_is_a_class():
    assert _arranged(_names("train", "car")).classes == ("car", "train")


@pytest.mark.parametrize(
    ("names", "folders", "problem"),
    [
        ([], [], "no image in"),
        (_names("cat"), [], "one class only: 'cat'"),
        ([*_names("cat", "dog"), "loose.png"], [], "loose.png of 'folder:x' lies in no class"),
        ([*_names("cat", "dog"), "owl/1.png"], [], "'owl' of 'folder:x' has 1 images to train on"),
        (_names("train/cat", "train/dog"), [], "has train/ and no test/"),
        (_names("train/cat", "train/dog", "test/owl"), [], "'owl' of 'folder:x' is never in train"),
        (_names("train/cat", "train/dog", "test/cat", "more/cat"), [], "lies beside train/"),
        (_names("cat", "dog"), ["cat", "dog", "owl"], "no image in the class folder owl"),
    ],
)
def test_what_is_not_laid_out_is_refused(names, folders, problem):
    with pytest.raises(NasError, match=problem) as error:
        _arranged(names, folders)
    assert error.value.hint


def test_a_folder_and_its_archive_hold_the_same(image_folder, tmp_path: Path):
    folder = image_folder({"cat": 6, "dog": 6})
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", folder))
    one, other = of_path(folder, "folder:a"), of_path(archive, "folder:a.zip")
    assert (one.names, one.labels, one.classes) == (other.names, other.labels, other.classes)
    with one.opened() as read, other.opened() as again:
        assert [read(i) for i in range(12)] == [again(i) for i in range(12)]


def test_the_digest_is_of_the_content(image_folder):
    folder = image_folder({"cat": 6, "dog": 6})
    before = of_path(folder, "folder:a").digest
    assert of_path(folder, "folder:a").digest == before
    image = folder / "cat" / "000.png"
    image.write_bytes(image.read_bytes() + b"\0")
    assert of_path(folder, "folder:a").digest != before


def test_hidden_and_foreign_files_are_no_images(image_folder):
    folder = image_folder({"cat": 6, "dog": 6})
    (folder / ".trash").mkdir()
    (folder / ".trash" / "x.png").write_bytes(b"")
    (folder / "notes.txt").write_text("six of each")
    assert len(of_path(folder, "folder:a").names) == 12


def test_no_such_path_names_the_nearest(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(NasError, match="no such path") as error:
        of_path(tmp_path / "fotos", "folder:fotos")
    assert "photos" in error.value.hint


def test_no_archive(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(NasError, match="not a zip archive"):
        of_path(tmp_path / "a.zip", "folder:a.zip")


@pytest.mark.parametrize("name", ["../cat/1.png", "/cat/1.png", "cat/../../1.png", "c:/cat/1.png"])
def test_an_archive_that_names_files_outside_is_refused(tmp_path: Path, name: str):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(NasError, match="outside itself"):
        of_path(tmp_path / "a.zip", "folder:a.zip")


def _packed(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def test_what_only_describes_an_archive_is_no_image(tmp_path: Path):
    images = _names("cat", "dog", count=6)
    extra = [".git/x.png", "cat/.thumbs.png", "__MACOSX/cat/0.png", "notes.txt"]
    found = of_path(_packed(tmp_path / "a.zip", *images, *extra), "folder:a.zip")
    assert found.names == tuple(sorted(images))
    assert found.digest == of_path(tmp_path / "a.zip", "folder:a.zip").digest
    assert len(found.digest) == 32


def test_a_class_folder_of_an_archive_may_not_be_empty(tmp_path: Path):
    images = _names("cat", "dog")
    assert of_path(_packed(tmp_path / "a.zip", "cat/", "dog/", *images), "folder:a.zip").names
    with pytest.raises(NasError, match="no image in the class folder owl of"):
        of_path(_packed(tmp_path / "a.zip", "cat/", "owl/", *images), "folder:a.zip")


def test_empty_folders_that_are_no_classes_do_not_matter():
    split = _names("train/cat", "train/dog", "test/cat")
    folders = ["train", "test", "test/cat/old", "docs/figures"]
    assert _arranged(split, folders).classes == ("cat", "dog")
    with pytest.raises(NasError, match="no image in the class folder test/dog"):
        _arranged(split, [*folders, "test/dog"])
    wrapped = _names("photos/cat", "photos/dog")
    assert _arranged(wrapped, ["photos", "photos/cat/old"]).classes == ("cat", "dog")
    with pytest.raises(NasError, match="no image in the class folder photos/owl"):
        _arranged(wrapped, ["photos/owl"])


def test_an_archive_that_is_encrypted_or_holds_a_name_twice_is_refused(tmp_path: Path):
    path = _packed(tmp_path / "a.zip", *_names("cat", "dog"))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first entry's directory row
    path.write_bytes(content)
    with pytest.raises(NasError, match=r"encrypted: 'cat/0\.png'"):
        of_path(path, "folder:a.zip")
    with pytest.warns(UserWarning, match="Duplicate"):
        _packed(path, "cat/0.png", "cat/0.png")
    with pytest.raises(NasError, match=r"holds 'cat/0\.png' twice"):
        of_path(path, "folder:a.zip")


def test_what_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*given: object) -> None:
        raise PermissionError(13, "Permission denied", "a.zip")

    path = _packed(tmp_path / "a.zip", *_names("cat", "dog"))
    monkeypatch.setattr(listing, "_of_archive", refused)
    with pytest.raises(NasError, match=r"cannot read a\.zip: Permission denied"):
        of_path(path, "folder:a.zip")


def test_bounds_are_kept_to_the_byte(image_folder, monkeypatch: pytest.MonkeyPatch):
    folder = image_folder({"cat": 6, "dog": 6})
    largest = max(p.stat().st_size for p in folder.rglob("*.png"))
    monkeypatch.setattr(listing, "IMAGE_BYTES", largest)
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    monkeypatch.setattr(listing, "MEMBERS", len(zipfile.ZipFile(archive).infolist()))
    for path in (folder, archive):
        found = of_path(path, "folder:a")
        with found.opened() as read:
            assert max(len(read(i)) for i in range(len(found.names))) == largest


def test_bounds(image_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = image_folder({"cat": 6, "dog": 6})
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", folder))
    monkeypatch.setattr(listing, "MEMBERS", 5)
    with pytest.raises(NasError, match="at most 5 are read"):
        of_path(archive, "folder:a.zip")
    monkeypatch.setattr(listing, "MEMBERS", 50)
    monkeypatch.setattr(listing, "IMAGE_BYTES", 10)
    for path in (folder, archive):
        with pytest.raises(NasError, match="at most 10 are read"):
            of_path(path, "folder:a")
