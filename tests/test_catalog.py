from __future__ import annotations

from pathlib import Path

import pytest

from nas import catalog
from nas.core.errors import NasError

SPACE = """
'''A bird space.'''
from nas import Choice, SearchSpace, objective

def build(choices, task):
    raise RuntimeError

space = SearchSpace("{name}", [Choice("width", [1, 2])], build)

@objective(unit="layers", goal="minimize", needs="choices")
def width(candidate):
    return candidate.choices["width"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    return tmp_path / "search_spaces"


def write(folder: Path, name: str, text: str = SPACE) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text.replace("{name}", name))
    return path


def test_a_file_in_the_working_folder_is_a_space(folder: Path) -> None:
    write(folder, "birdnet")
    write(folder, "_private")
    assert {"birdnet", "largekernel"} <= set(catalog.names(catalog.SPACES))
    assert "_private" not in catalog.names(catalog.SPACES)
    assert catalog.load_space("birdnet").size == 2


def test_the_working_folder_comes_first_and_says_so(folder: Path) -> None:
    path = write(folder, "largekernel")
    assert catalog.find(catalog.SPACES, "largekernel") == path
    line = catalog.shadowed(catalog.SPACES, "largekernel")
    assert line is not None and str(path) in line
    assert catalog.shadowed(catalog.SPACES, "birdnet") is None


def test_an_edited_file_is_read_again(folder: Path) -> None:
    write(folder, "birdnet")
    assert catalog.load_space("birdnet").size == 2
    write(folder, "birdnet", SPACE.replace("[1, 2]", "[1, 2, 3]"))
    assert catalog.load_space("birdnet").size == 3


def test_an_unknown_name_gets_the_nearest(folder: Path) -> None:
    write(folder, "birdnet")
    with pytest.raises(NasError, match="did you mean 'birdnet'"):
        catalog.load_space("birdnett")
    for name in ("../birdnet", "/etc/passwd", "", "a/b"):
        with pytest.raises(NasError, match="no space named"):
            catalog.load_space(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = 1 / 0\n", "line 2: ZeroDivisionError"),
        ("def broken(:\n", "line 1: SyntaxError"),
        ("x = 1\n", "does not define the search space 'birdnet'"),
        (SPACE.replace("{name}", "other"), "does not define the search space 'birdnet'"),
    ],
)
def test_a_broken_file_is_named_with_its_line(folder: Path, text: str, said: str) -> None:
    path = write(folder, "birdnet", text)
    with pytest.raises(NasError, match=said) as raised:
        catalog.load_space("birdnet")
    assert str(path) in raised.value.problem


def test_an_objective_is_found_by_file_and_name(folder: Path) -> None:
    write(folder, "birdnet")
    objective, function = catalog.load_objective("birdnet:width")
    assert (objective.name, objective.unit, objective.needs) == (
        "birdnet:width", "layers", "choices",
    )  # fmt: skip
    assert callable(function)
    with pytest.raises(NasError, match="did you mean 'width'"):
        catalog.load_objective("birdnet:widht")
