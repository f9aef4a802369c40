"""What is said of a `table.toml` that is wrong: its path, the entry, and how it is written."""

import tomllib

import pytest

from nas.core.errors import NasError
from nas.runners.description import described

TOML = """
name = "toy"
data = "table.csv"
complete = true
source = "made up"
licence = "MIT"
[decisions]
kernel = [3, 7]
width = ["s", "m"]
[[objectives]]
name = "error"
columns = ["err_1", "err_2"]
unit = "%"
goal = "minimize"
known = false
[[objectives]]
name = "speed"
columns = ["fps"]
unit = "1/s"
goal = "maximize"
known = true
[[fidelities]]
epochs = 2
columns = ["short"]
[[fidelities]]
epochs = 10
columns = ["err_1", "err_2"]
[hypervolume]
reference = [50, 1]
"""
OBJECTIVES = TOML[TOML.index("[[objectives]]") : TOML.index("[[fidelities]]")]
FIDELITIES = TOML[TOML.index("[[fidelities]]") : TOML.index("[hypervolume]")]


def error(folder, old, new):
    assert old in TOML
    (folder / "table.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(NasError) as caught:
        described(folder)
    place, _, problem = caught.value.problem.partition(": ")
    assert place == str(folder / "table.toml")
    return problem, caught.value.hint


def test_what_is_right_is_read_as_it_is(tmp_path):
    (tmp_path / "table.toml").write_text(TOML)
    assert described(tmp_path) == tomllib.loads(TOML)


@pytest.mark.parametrize(
    "left",
    ['source = "made up"\n', 'unit = "%"\n', "known = false\n", "complete = true\n", FIDELITIES],
)
def test_what_may_be_left_out_may(tmp_path, left):
    assert left in TOML
    (tmp_path / "table.toml").write_text(TOML.replace(left, ""))
    described(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "problem", "hint"),
    [
        ("licence =", "license =", "no key named 'license'", "did you mean 'licence'"),
        ('name = "toy"', "name = 3", "name is 3", 'write name = "'),
        ('data = "table.csv"', 'data = ""', "data is ''", 'write data = "table.csv.gz"'),
        ("complete = true", 'complete = "false"', "complete is 'false'", "or complete = false"),
        ('source = "made up"', "source = 3", "source is 3", 'write source = "'),
        ("kernel = [3, 7]", "kernel = 3", "'kernel' is not a list of choices: 3", "kernel = [0,"),
        ("kernel = [3, 7]", "kernel = []", "'kernel' is not a list of choices: []", "kernel = [0,"),
        ("kernel = [3, 7]", "kernel = [[3], 7]", "not a list of choices: [[3], 7]", "numbers"),
        ("kernel = [3, 7]", "kernel = [3, nan]", "not a list of choices: [3, nan]", "numbers"),
        ("kernel = [3, 7]", "kernel = [2020-01-01, 7]", "not a list of choices", "numbers"),
        (OBJECTIVES, "", "'objectives' is missing", "write [[objectives]]"),
        (OBJECTIVES, "[objectives]\nname = 1\n", "objectives is {'name': 1}", "[[objectives]]"),
        ('goal = "minimize"', 'goal = "min"', "objective 'error': goal is 'min'", '"minimize"'),
        ('name = "speed"\n', "", "objective 2: 'name' is missing", 'write name = "error"'),
        ('name = "speed"', 'name = "error"', "two objectives are named 'error'", "columns of one"),
        ('["fps"]', '"fps"', "objective 'speed': columns is 'fps'", 'write columns = ["err_s777"'),
        ('["fps"]', "[]", "objective 'speed': columns is []", 'write columns = ["err_s777"'),
        ('["fps"]', "[7]", "objective 'speed': columns is [7]", 'write columns = ["err_s777"'),
        ('unit = "%"', "unit = 3", "objective 'error': unit is 3", 'write unit = "%"'),
        ("known = true", 'known = "false"', "'speed': known is 'false'", "or known = false"),
        ("known = true", "konwn = true", "'speed': no key named 'konwn'", "did you mean 'known'"),
        ("known = false", "known = true", "'error' is known = true", "takes training first"),
        (FIDELITIES, "[fidelities]\nepochs = 2\n", "fidelities is {'epochs': 2}", "[[fidelities]]"),
        ("epochs = 2", "epochs = 20", "not in order of their epochs: [20, 10]", "cheapest"),
        ("epochs = 2", 'epochs = "2"', "fidelity 1: epochs is '2'", "write epochs = 12"),
        ("epochs = 10", "epochs = true", "fidelity 2: epochs is True", "write epochs = 12"),
        ("epochs = 2", "epochs = 0", "fidelity 1: epochs is 0", "above 0"),
        ("epochs = 2", "epoch = 2", "fidelity 1: no key named 'epoch'", "did you mean 'epochs'"),
        ('columns = ["short"]\n', "", "fidelity 1: 'columns' is missing", "err_12ep"),
        ("reference =", "referenz =", "hypervolume: no key named 'referenz'", "'reference'"),
        ("[50, 1]", "50", "hypervolume: reference is 50", "write reference = [34.78"),
        ("[50, 1]", "['50', 1]", "hypervolume: reference is ['50', 1]", "write reference = [34.78"),
        ("[50, 1]", "[nan, 1]", "hypervolume: reference is [nan, 1]", "write reference = [34.78"),
        ("[50, 1]", "[50, true]", "hypervolume: reference is [50, True]", "a number for each"),
        ("[50, 1]", "[50]", "reference has 1 numbers for 2 objectives", "one number for each"),
        ("kernel = [3, 7]", "kernel = [3, 7", "", "TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_the_right_form(tmp_path, old, new, problem, hint):
    found = error(tmp_path, old, new)
    assert problem in found[0]
    assert hint in found[1]


def test_objectives_without_their_lines_are_no_objectives(tmp_path):
    text = TOML.replace(OBJECTIVES, "").replace(
        "[decisions]", 'objectives = ["error"]\n[decisions]'
    )
    (tmp_path / "table.toml").write_text(text)
    with pytest.raises(NasError, match=r"objectives is \['error'\]"):
        described(tmp_path)


def test_a_folder_without_a_table_is_no_table(tmp_path):
    with pytest.raises(NasError, match="no table in"):
        described(tmp_path)
