from __future__ import annotations

from pathlib import Path

import pytest

from nas import catalog
from nas.core.errors import NasError
from nas.core.task import TaskSpec

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


AXIS = """
from nas import Axis, Choice

axis = Axis("{name}", [Choice("level", ["none", "some"])], lambda choices, task: dict(choices))
"""


def test_a_space_and_axes_are_joined_by_name(folder: Path) -> None:
    write(folder, "birdnet")
    write(folder, "squeeze", AXIS)
    assert "squeeze" in catalog.axes() and "squeeze" not in catalog.spaces()
    assert "birdnet" in catalog.spaces() and "birdnet" not in catalog.axes()
    joint = catalog.load_space("birdnet+squeeze").at(TaskSpec("t", (3, 8, 8), 2))
    assert (joint.name, joint.size) == ("birdnet+squeeze", 4)
    choices = joint.architecture({"width": 1, "squeeze.level": "some"}).choices
    assert joint.transforms(choices, TaskSpec("t", (3, 8, 8), 2)) == [{"level": "some"}]


def test_a_network_of_ones_own_stands_in_for_a_space(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "squeeze", AXIS)
    (folder.parent / "my_net.py").write_text("def net(task):\n    return ('net', task.outputs)\n")
    monkeypatch.syspath_prepend(folder.parent)
    task = TaskSpec("t", (3, 8, 8), 2)
    joint = catalog.load_space("squeeze", network="my_net:net").at(task)
    assert (joint.name, joint.size) == ("my_net:net+squeeze", 2)
    assert joint.build(joint.preset("untouched").choices, task) == ("net", 2)
    assert dict(joint.preset("untouched").choices) == {"squeeze.level": "none"}


@pytest.mark.parametrize(
    ("name", "network", "said"),
    [
        ("squeeze", None, "'squeeze' is an axis"),
        ("birdnet+largekernel", None, "'largekernel' is a space of networks"),
        ("birdnet", "my_net:net", "stands in for a space, and 'birdnet' is one"),
        ("birdnet+squeez", None, "no space named 'squeez'"),
        ("birdnet+squeeze+squeeze", None, "axis 'squeeze' is named twice"),
    ],
)
def test_what_cannot_be_joined_says_why(
    folder: Path, name: str, network: str | None, said: str
) -> None:
    write(folder, "birdnet")
    write(folder, "squeeze", AXIS)
    with pytest.raises(NasError, match=said):
        catalog.load_space(name, network)
