"""The data file of a tabulated benchmark: its columns as text, and that as choices and numbers."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Value
from nas.core.errors import NasError, unknown
from nas.runners.description import FILE

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Columns = Mapping[str, Sequence[str]]

# What pandas, R and databases write where there is nothing, in small letters.
BLANK = frozenset(("", "nan", "na", "<na>", "none", "null"))
# What files that are broken, or of another kind than their name says, are read with.
_UNREADABLE = (OSError, EOFError, ValueError, NotImplementedError, zlib.error, csv.Error)


def columns_of(path: Path) -> Columns:
    """Every column of a data file as text.

    Raises: NasError for a file that is not there, cannot be read or has lines of unequal length.
    """
    if not path.is_file():
        raise NasError(f"no file {str(path)!r}", f"`data` in {FILE} names a file beside it")
    try:
        return _parquet(path) if path.suffix == ".parquet" else _csv(path)
    except _UNREADABLE as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise NasError(
            f"{path} cannot be read: {first}",
            "write it anew: .csv in UTF-8, .csv.gz, which is that in gzip, or .parquet",
        ) from None


def coded(name: str, values: Sequence[Value], columns: Columns, place: Path) -> Codes:
    """The index of each cell among the choices, -1 for a blank one.

    Raises: NasError, as of the table at `place`, for a column or a choice that is not there.
    """
    known = {_spelt(v): i for i, v in enumerate(values)}
    if len(known) < len(values):
        raise NasError(
            f"{place}: decision {name!r} has a choice twice: {list(values)}", "write each once"
        )
    # a network's operation may be none: as a decision that word is a choice, or a mistake
    none = BLANK - {"none"} - {text.lower() for text in known}
    blank = known.get("", -1)
    cells = _column(name, columns, place)
    found = np.empty(len(cells), dtype=np.int64)
    for line, cell in enumerate(cells, start=2):
        text = _spelt(cell)
        if text.lower() not in none and text not in known:
            raise NasError(
                f"{place}: {name} is {cell!r} in line {line} of the data",
                f"its choices are {list(values)}; add it or mend the cell",
            )
        found[line - 2] = known.get(text, blank)
    return found


def numbers(names: Sequence[str], columns: Columns, place: Path) -> Array:
    """Columns as numbers `(rows, seeds)`, nan for what is blank.

    Raises: NasError, as of the table at `place`, for a column that is not there or no number.
    """
    return np.stack(
        [_numeric(name, _column(name, columns, place), place) for name in names], axis=1
    )


def _csv(path: Path) -> Columns:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    rows = csv.reader(io.StringIO(text))
    head = next(rows, [])
    twice = next((name for name in head if head.count(name) > 1), None)
    if twice is not None:
        raise NasError(
            f"{path}: two columns are named {twice!r}", "give each column a name of its own"
        )
    cells = [row for row in rows if row]
    for number, row in enumerate(cells, start=2):
        if len(row) != len(head):
            raise NasError(
                f"{path}: line {number} has {len(row)} cells, the head {len(head)}",
                "give every line as many cells as the head; a cell may be blank",
            )
    return dict(zip(head, zip(*cells, strict=True) if cells else [()] * len(head), strict=True))


def _parquet(path: Path) -> Columns:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise NasError(
            f"{path} is Parquet, and pyarrow is not installed",
            "type pip install pyarrow, or write the table as .csv.gz",
        ) from None
    table = parquet.read_table(path)
    return {
        name: ["" if v is None else str(v) for v in _plain(column)]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _plain(column: Any) -> Sequence[Any]:
    """The values of a column of Arrow's.

    A short float stays one, so that it is spelt as it was meant: 0.1, not 0.10000000149.
    """
    short = importlib.import_module("pyarrow.types").is_floating(column.type)
    found: Sequence[Any] = column.to_numpy() if short else column.to_pylist()
    return found


def _column(name: str, columns: Columns, place: Path) -> Sequence[str]:
    if name not in columns:
        error = unknown("column", name, columns)
        raise NasError(f"{place}: {error.problem}", error.hint)
    return columns[name]


def _numeric(name: str, cells: Sequence[str], place: Path) -> Array:
    found = np.empty(len(cells))
    for line, cell in enumerate(cells, start=2):
        text = cell.strip()
        try:
            found[line - 2] = math.nan if text.lower() in BLANK else float(text)
            if "_" in text:  # Python would read 1_0 as 10
                raise ValueError(text)
        except ValueError:
            raise NasError(
                f"{place}: {name} is {cell!r} in line {line} of the data",
                "write a number, or leave the cell blank where there is none",
            ) from None
    found[~np.isfinite(found)] = math.nan
    return found


def _spelt(value: Value) -> str:
    """One spelling for a choice however it is written: `3`, `3.0` and `" 3"` are the same.

    So are `true` and `1`, which files hold for each other. Whole numbers are spelt in full.

    >>> _spelt(3.0), _spelt("3"), _spelt(True), _spelt("False"), _spelt("conv")
    ('3', '3', '1', '0', 'conv')
    >>> _spelt(0.1 + 0.2), _spelt(1234567890123), _spelt("1234567890124.0"), _spelt("1_0")
    ('0.3', '1234567890123', '1234567890124', '1_0')
    """
    text = str(value).strip()
    text = {"true": "1", "false": "0"}.get(text.lower(), text)
    if "_" in text:  # Python would read 1_0 as 10
        return text
    try:
        return str(int(text))
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else f"{number:.12g}"
