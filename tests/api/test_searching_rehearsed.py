"""A dry run checks what a search would, and does and writes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import toy_spec

from nas.api import searching
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.store.store import Store
from nas.training.tasks import describe

SPACE = """
from nas import Choice, SearchSpace

space = SearchSpace("toy", [Choice("kernel", [3, 5])], build=lambda choices, task: None)
"""


def begun() -> StudySpec:
    """A study whose space and data are here."""
    return toy_spec(task=describe("digits"))


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with one study, where a search would be an error."""

    def never(*given: object) -> None:
        raise AssertionError("a dry run searched")

    monkeypatch.setattr(searching, "_searched", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "toy.py").write_text(SPACE)
    place = f"sqlite:///{tmp_path}/nas.db"
    with Store(place) as store:
        store.create(begun())
    return place


def test_a_study_is_not_gone_on_with(url: str) -> None:
    name = toy_spec().name
    front = searching.search(resume=True, study=name, trials=99, dry_run=True, storage=url)
    assert front.study == name
    with Store(url, read_only=True) as store:
        assert store.spec(name) == begun()


def test_a_name_that_is_taken_is_told(url: str) -> None:
    with pytest.raises(NasError, match="there is a study named"):
        searching.search(space="resnet", study=toy_spec().name, dry_run=True, storage=url)


def test_a_database_that_could_not_be_used_is_told(url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, and more than a header of one is long" * 9)
    for wrong in ("notes.txt", "mysql://host/nas", "sqlite:///notes.txt"):
        with pytest.raises(NasError):
            searching.search(space="resnet", dry_run=True, storage=wrong)


def test_without_a_database_none_is_made(url: str, tmp_path: Path) -> None:
    front = searching.search(space="resnet", dry_run=True, storage="sqlite:///new/nas.db")
    assert front.study == "resnet-digits-cpu" and not (tmp_path / "new").exists()


def test_no_study_begins_where_its_files_cannot_be_kept(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in ("file/artifacts", "ftp://127.0.0.1:1/artifacts"):
        with pytest.raises(NasError, match=r"kept at|keep artifacts at"):
            searching.search(space="resnet", study="next", artifacts=wrong, storage=url)
    with Store(url, read_only=True) as store:
        assert [row.name for row in store.studies()] == [toy_spec().name]


@pytest.mark.parametrize("wrong", [-1, 2**32, 10**30])
def test_a_seed_that_no_generator_takes_is_told(url: str, wrong: int) -> None:
    with pytest.raises(NasError, match=f"not a seed: {wrong}"):
        searching.search(space="resnet", seed=wrong, dry_run=True, storage=url)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("optuna:Nope", "no Optuna sampler named 'Nope'"),
        ("optuna:GridSampler", "Optuna's GridSampler cannot be a strategy here"),
        ("evoluton", "no strategy named 'evoluton'"),
    ],
)
def test_a_strategy_that_is_none_is_told(url: str, wrong: str, told: str) -> None:
    with pytest.raises(NasError, match=told):
        searching.search(space="resnet", strategy=wrong, dry_run=True, storage=url)


def test_a_network_of_ones_own_is_tried_before_a_study_begins(url: str, tmp_path: Path) -> None:
    (tmp_path / "brought_here.py").write_text("def net(task):\n    return 3\n")
    for rehearsed in (True, False):
        with pytest.raises(NasError, match="brought_here:net returned 3, not a torch"):
            searching.search(
                space="sparsity", network="brought_here:net", dry_run=rehearsed, storage=url
            )
    with Store(url, read_only=True) as store:
        assert [row.name for row in store.studies()] == [toy_spec().name]


def test_without_a_network_nothing_waits_for_torch(tmp_path: Path) -> None:
    said = (
        "import sys; from nas.api import search;"
        f"search(space='largekernel', dry_run=True, storage='sqlite:///{tmp_path}/no.db');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", said], check=True, timeout=60)
