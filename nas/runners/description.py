"""What the `table.toml` of a tabulated benchmark says, with every entry of the right kind."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core.decision import is_number
from nas.core.errors import NasError, unknown

FILE = "table.toml"


@dataclass(frozen=True)
class _Key:
    """An entry: what its value must be, and how it is written."""

    fits: Callable[[Any], bool]
    form: str
    needed: bool = True


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _choice(value: Any) -> bool:
    return isinstance(value, bool | str) or _number(value)


def _several(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A list that is not empty, each of whose values fits."""
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _section(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


_TABLE = {
    "name": _Key(_text, 'name = "nb201-cifar100-raspi4"'),
    "data": _Key(_text, 'data = "table.csv.gz", or another file beside it'),
    "complete": _Key(_flag, "complete = true or complete = false, without quotes", needed=False),
    "source": _Key(_string, 'source = "where the numbers are from"', needed=False),
    "licence": _Key(_string, 'licence = "MIT"', needed=False),
    "decisions": _Key(_section, "[decisions], and below it kernel = [3, 5, 7] for each column"),
    "objectives": _Key(_several(_section), "[[objectives]] above the lines of each one"),
    "fidelities": _Key(lambda v: v == [] or _several(_section)(v),
                       "[[fidelities]] above the lines of each one", needed=False),
    "hypervolume": _Key(_section, "[hypervolume], and below it reference = [34.78, 63.53]"),
}  # fmt: skip
_OBJECTIVE = {
    "name": _Key(_text, 'name = "error"'),
    "columns": _Key(_several(_text), 'columns = ["err_s777", "err_s888"], one for each seed'),
    "unit": _Key(_string, 'unit = "%"', needed=False),
    "goal": _Key(lambda v: v in ("minimize", "maximize"), 'goal = "minimize" or "maximize"'),
    "known": _Key(_flag, "known = true or known = false, without quotes", needed=False),
}
_FIDELITY = {
    "epochs": _Key(lambda v: _number(v) and v > 0, "epochs = 12, a number above 0 without quotes"),
    "columns": _Key(_several(_text), 'columns = ["err_12ep"], one for each seed'),
}
_HYPERVOLUME = {
    "reference": _Key(_several(_number), "reference = [34.78, 63.53], a number for each objective")
}


def described(folder: Path) -> dict[str, Any]:
    """What a folder's `table.toml` says.

    Raises: NasError for a folder without one, and for an entry that is missing, unknown, of the
        wrong kind or at odds with another.
    """
    place = folder / FILE
    if not place.is_file():
        raise NasError(f"no table in {str(folder)!r}", f"a table is a folder with a {FILE}")
    try:
        about = tomllib.loads(place.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NasError(f"{place}: {error}", "mend that line; the form is that of TOML") from None
    _fitting(str(place), about, _TABLE)
    for name, values in about["decisions"].items():
        if not _several(_choice)(values):
            raise NasError(
                f"{place}: decision {name!r} is not a list of choices: {values!r}",
                f"write {name} = [0, 1, 2], numbers, words or true and false",
            )
    for number, entry in enumerate(about["objectives"], start=1):
        _fitting(f"{place}: objective {entry.get('name', number)!r}", entry, _OBJECTIVE)
    for number, entry in enumerate(about.get("fidelities", []), start=1):
        _fitting(f"{place}: fidelity {number}", entry, _FIDELITY)
    _fitting(f"{place}: hypervolume", about["hypervolume"], _HYPERVOLUME)
    _agreeing(place, about)
    return about


def _fitting(where: str, entry: Mapping[str, Any], keys: Mapping[str, _Key]) -> None:
    """Raises: NasError for a key that is unknown, missing or of the wrong kind."""
    for name in entry:
        if name not in keys:
            error = unknown("key", name, keys)
            raise NasError(f"{where}: {error.problem}", error.hint)
    for name, key in keys.items():
        if name not in entry and key.needed:
            raise NasError(f"{where}: {name!r} is missing", f"write {key.form}")
        if name in entry and not key.fits(entry[name]):
            raise NasError(f"{where}: {name} is {entry[name]!r}", f"write {key.form}")


def _agreeing(place: Path, about: Mapping[str, Any]) -> None:
    """Raises: NasError for entries of which each is right, but not all together."""
    names = [entry["name"] for entry in about["objectives"]]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise NasError(
            f"{place}: two objectives are named {twice!r}",
            "give each a name of its own; seeds of one objective are columns of one entry",
        )
    epochs = [entry["epochs"] for entry in about.get("fidelities", [])]
    if epochs != sorted(set(epochs)):
        raise NasError(
            f"{place}: fidelities are not in order of their epochs: {epochs}",
            "list the cheapest first, the full one last, each once",
        )
    if epochs and about["objectives"][0].get("known"):
        raise NasError(
            f"{place}: fidelities are of the first objective, and {names[0]!r} is known = true",
            "list the objective that takes training first, or leave [[fidelities]] out",
        )
    reference = about["hypervolume"]["reference"]
    if len(reference) != len(names):
        raise NasError(
            f"{place}: the hypervolume's reference has {len(reference)} numbers "
            f"for {len(names)} objectives",
            "write one number for each objective, in their order",
        )
