"""The public table format: what is read from it, and what is said of a table that is wrong."""

import gzip
import sys

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.runners.conditions import conditions
from nas.runners.table import read

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
CSV = """kernel,width,err_1,err_2,fps,short
3,s,40,42,9,60
3.0,m,30,,7,45
7,s,20,22,5,50
7,m,10,14,2,30
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "table.toml").write_text(TOML)
    (tmp_path / "table.csv").write_text(CSV)
    return tmp_path


def put(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_means_are_over_the_seeds_that_are_there(folder):
    table = read(folder)
    row = table.row(table.space.architecture({"kernel": 3, "width": "m"}))
    assert table.scored[row].tolist() == [30.0, -7.0]
    assert (
        len(table) == 4 and table.complete and [level.epochs for level in table.levels] == [2, 10]
    )


def test_hypervolume_is_of_the_true_front(folder):
    # In (error, -speed) up to (50, -1): all four rows are on the front.
    widths, heights = [20, 11, 9, 9], [8, 6, 4, 1]
    errors = [41, 30, 21, 12]
    by_hand = (50 - errors[0]) * heights[0] + widths[1] * heights[1]
    by_hand += widths[2] * heights[2] + widths[3] * heights[3]
    table = read(folder)
    assert table.share(table.scored) == pytest.approx(1.0)
    boxes = [table.share(point[None]) * by_hand for point in table.scored]
    assert sorted(boxes) == pytest.approx(
        sorted((50 - e) * s for e, s in zip(errors, heights, strict=True))
    )


@pytest.mark.parametrize("scale", ["e200", "e-200"])
def test_shares_are_those_of_numbers_of_any_size(folder, scale):
    before = read(folder)
    for pair in ("40,42", "30,", "20,22", "10,14"):
        one, two = pair.split(",")
        put(folder, "table.csv", pair, f"{one}{scale},{two}{scale if two else ''}")
    put(folder, "table.toml", "[50, 1]", f"[50{scale}, 1]")
    after = read(folder)
    for point, scaled in zip(before.scored, after.scored, strict=True):
        assert after.share(scaled[None]) == pytest.approx(before.share(point[None]))


@pytest.mark.parametrize("blank", ["", "nan", "NA", "<NA>", "None", "null"])
def test_a_blank_seed_may_be_written_in_words(folder, blank):
    put(folder, "table.csv", "30,,", f"30,{blank},")
    table = read(folder)
    row = table.row(table.space.architecture({"kernel": 3, "width": "m"}))
    assert table.scored[row].tolist() == [30.0, -7.0]


def test_numbers_are_a_scale_in_any_order(folder):
    before = read(folder)
    put(folder, "table.toml", "[3, 7]", "[7, 3]")
    after = read(folder)
    assert after.space.listed == before.space.listed
    assert (after.scored == before.scored).all()


def test_columns_of_one_name_are_refused(folder):
    put(folder, "table.csv", "err_1,err_2,fps", "err_1,err_2,err_2")
    with pytest.raises(NasError, match="two columns are named 'err_2'"):
        read(folder)


def test_gzip_is_read_the_same(folder):
    plain = read(folder)
    (folder / "table.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    put(folder, "table.toml", '"table.csv"', '"table.csv.gz"')
    assert np.array_equal(read(folder).scored, plain.scored)


def test_an_incomplete_table_takes_the_nearest_unused_row(folder):
    put(folder, "table.toml", "complete = true", "complete = false")
    put(folder, "table.csv", "7,m,10,14,2,30\n", "")
    table = read(folder)
    missing = table.space.architecture({"kernel": 7, "width": "m"})
    used = np.zeros(3, dtype=bool)
    first = table.row(missing, used)
    assert (table.codes[first] != table.code(missing)).sum() == 1
    used[first] = True
    assert table.row(missing, used) != first


def test_rows_of_one_architecture_are_averaged(folder):
    put(folder, "table.csv", "7,m,10,14,2,30\n", "7,m,10,14,2,30\n7,m,20,,4,\n")
    table = read(folder)
    row = table.row(table.space.architecture({"kernel": 7, "width": "m"}))
    assert table.scored[row].tolist() == [14.5, -3.0]


def test_blank_decisions_become_conditions(folder):
    put(folder, "table.toml", 'width = ["s", "m"]', 'width = ["s", "m"]\ndilation = [1, 2]')
    lines = ["kernel,width,dilation,err_1,err_2,fps,short"]
    lines += [f"3,{w},{d},30,31,5,40" for w in "sm" for d in (1, 2)]
    lines += [f"7,{w},,20,21,3,40" for w in "sm"]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    table = read(folder)
    assert table.space.size == len(table) == 6
    assert dict(table.space.listed[2].when) == {"kernel": [3]}


def test_conditions_on_conditions_come_in_an_order_that_works():
    # c exists beside b = 1, b beside a = 0; c is listed first.
    codes = np.array([[0, 0, 1], [1, 0, 1], [-1, 0, 0], [-1, 1, -1]])
    order, whens, _, _ = conditions(["c", "a", "b"], [[5, 6], [0, 1], [8, 9]], codes)
    assert order == [1, 2, 0]
    assert whens == [{"b": [9]}, None, {"a": [0]}]


def test_blank_cells_without_a_rule_are_a_choice():
    codes = np.array([[0, 0], [0, -1], [1, 1]])
    order, whens, choices, coded = conditions(["a", "b"], [[0, 1], [0, 1]], codes)
    assert (order, whens, choices[1]) == ([0, 1], [None, None], [0, 1, ""])
    assert coded[:, 1].tolist() == [0, 2, 1]


def test_a_table_with_such_cells_takes_the_nearest_row(folder):
    put(folder, "table.csv", "3,s,", ",s,")
    put(folder, "table.csv", "7,s,", ",m,")
    table = read(folder)
    assert not table.complete and len(table) == 4
    blank = table.space.architecture({"width": "s", "kernel": ""})
    assert table.architecture(table.row(blank)) == blank


def test_parquet_with_blank_numbers_reads_the_same(folder):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    put(folder, "table.csv", "7,s,", ",s,")
    expected = read(folder)
    rows = [line.split(",") for line in (folder / "table.csv").read_text().splitlines()]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    numbers = {
        n: list(c) if n == "width" else [float(v) if v else float("nan") for v in c]
        for n, c in columns.items()
    }
    parquet.write_table(arrow.table(numbers), folder / "table.parquet")
    put(folder, "table.toml", '"table.csv"', '"table.parquet"')
    found = read(folder)
    assert found.space.listed == expected.space.listed
    assert (found.codes == expected.codes).all()
    np.testing.assert_array_equal(found.scored, expected.scored)


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("table.toml", '["fps"]', '["fsp"]', "no column named 'fsp'"),
        ("table.toml", "kernel = [3, 7]", "kernel = [3, 7, 3.0]", "'kernel' has a choice twice"),
        ("table.toml", "[50, 1]", "[10, 1]", "better in every objective than the hypervolume's"),
        ("table.toml", "[50, 1]", "[50, 9]", "better in every objective than the hypervolume's"),
        ("table.csv", "7,m,10", "9,m,10", "kernel is '9' in line 5"),
        ("table.csv", "7,m,10", "7,m,ten", "err_1 is 'ten' in line 5"),
        ("table.csv", "7,m,10,14,2,30", "7,m,10,14", "line 5 has 4 cells"),
        ("table.csv", "7,m,10,14,2,30", "7,m,,,2,30", "3 of 4 architectures"),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(folder, file, old, new, problem):
    put(folder, file, old, new)
    with pytest.raises(NasError) as caught:
        read(folder)
    assert problem in caught.value.problem
    assert caught.value.hint


def test_a_reference_that_nothing_reaches_is_told_with_what_there_is(folder):
    put(folder, "table.toml", "[50, 1]", "[50, 9]")
    with pytest.raises(NasError) as caught:
        read(folder)
    assert caught.value.problem.startswith(f"{folder / 'table.toml'}: ")
    assert "[50, 9]" in caught.value.problem
    assert "error is 12 to 41, speed is 9 to 2" in caught.value.hint


def test_parquet_without_its_package_says_what_to_install(folder, monkeypatch):
    put(folder, "table.toml", '"table.csv"', '"table.parquet"')
    (folder / "table.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(NasError, match="pyarrow is not installed"):
        read(folder)


@pytest.mark.parametrize("cell", ["none", "None"])
def test_none_is_no_blank_decision(folder, cell):
    """It is an operation of many spaces, and may have been forgotten among the choices."""
    put(folder, "table.csv", "3,s,40", f"3,{cell},40")
    with pytest.raises(NasError, match="its choices are"):
        read(folder)
