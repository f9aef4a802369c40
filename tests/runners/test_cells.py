"""Data files of tables: what is read from them, and what is said of those that cannot be."""

import gzip

import pytest

from nas.core.errors import NasError
from nas.runners.cells import columns_of

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
