"""Data files of tables: what is read from them, and what is said of those that cannot be."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.runners.cells import coded, columns_of, numbers

CSV = "kernel,err\n3,40\n7,20\n"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("table.csv", "kärnel,err\n3,40\n".encode("latin1")),
        ("table.csv", b"kernel,err\n" + b'"' + b"3" * 200_000 + b'",40\n'),
        ("table.csv.gz", CSV.encode()),
        ("table.csv.gz", gzip.compress(CSV.encode())[:-9]),
        ("table.csv.gz", gzip.compress(CSV.encode())[:12] + b"\xff" * 20),
        ("table.parquet", CSV.encode()),
        ("table.parquet", b""),
        ("table.parquet", b"PAR1" + b"\xff" * 40 + b"PAR1"),
    ],
    ids=["latin1", "endless cell", "no gzip", "cut gzip", "broken gzip",
         "no Parquet", "empty Parquet", "broken Parquet"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_in_two_lines(tmp_path, name, raw):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(NasError) as caught:
        columns_of(tmp_path / name)
    assert caught.value.problem.startswith(f"{tmp_path / name} cannot be read: ")
    assert "UTF-8" in caught.value.hint and len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(NasError, match="no file"):
        columns_of(tmp_path / "table.csv")


def codes(choices, cells):
    return coded("a", choices, {"a": cells}, Path("table.toml")).tolist()


def test_true_and_false_are_one_and_nought_in_either_direction():
    assert codes([False, True], ["0", "1", "False", "TRUE", "1.0", ""]) == [0, 1, 0, 1, 1, -1]
    assert codes([0, 1], ["false", "True", "0"]) == [0, 1, 0]


def test_long_whole_numbers_are_told_apart():
    near = [1234567890123, 1234567890124, 2**53, 2**53 + 1]
    assert codes(near, [str(n) for n in near]) == [0, 1, 2, 3]
    assert codes(near[:2], ["1234567890124.0", " 1234567890123"]) == [1, 0]


def test_words_that_python_reads_as_numbers_stay_words():
    assert codes(["1_0", "10"], ["10", "1_0"]) == [1, 0]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_parquet_floats_of_any_width_are_the_choices_they_were_meant_as(tmp_path, kind):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    shares = np.array([0.1, 0.2, 0.25, np.nan], dtype=kind)
    table = arrow.table({"a": shares, "b": [True, False, True, None], "c": [1, 0, 2**53 + 1, None]})
    parquet.write_table(table, tmp_path / "table.parquet")
    found = columns_of(tmp_path / "table.parquet")
    assert codes([0.1, 0.2, 0.25], found["a"]) == [0, 1, 2, -1]
    assert codes([False, True], found["b"]) == [1, 0, 1, -1]
    assert found["c"] == ["1", "0", str(2**53 + 1), ""]
    assert numbers(["a"], found, Path("table.toml"))[:3, 0].tolist() == [0.1, 0.2, 0.25]
