"""A name -> the file that says it: spaces, objectives and device profiles.

The user's working folder comes first, then what is shipped beside this package. Nothing is
registered: the file's name is the name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.core.errors import NasError, unknown
from nas.core.objective import Objective
from nas.core.space import SearchSpace

SPACES = ("search_spaces", ".py")
DEVICES = ("hardware_profiles", ".toml")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def folders(kind: tuple[str, str]) -> list[Path]:
    """Where files of this kind are looked for, the working folder first."""
    places = [Path.cwd() / kind[0], Path(__file__).resolve().parent.parent / kind[0]]
    return [p for i, p in enumerate(places) if p.is_dir() and p.resolve() not in
            [q.resolve() for q in places[:i]]]  # fmt: skip


def names(kind: tuple[str, str]) -> list[str]:
    """Every name of this kind, sorted; files that start with `_` are private."""
    found = {p.stem for folder in folders(kind) for p in folder.glob("*" + kind[1])}
    return sorted(n for n in found if not n.startswith("_"))


def find(kind: tuple[str, str], name: str) -> Path:
    """The file of that name. Raises: NasError with the nearest names."""
    if _NAME.fullmatch(name):
        for folder in folders(kind):
            path = folder / (name + kind[1])
            if path.is_file():
                return path
    word = "space" if kind == SPACES else "device"
    raise unknown(word, name, names(kind))


def shadowed(kind: tuple[str, str], name: str) -> str | None:
    """One line where a file of the working folder hides a shipped one of the same name."""
    found = [f / (name + kind[1]) for f in folders(kind) if (f / (name + kind[1])).is_file()]
    return f"{name}: {found[0]} is used instead of the shipped one" if len(found) > 1 else None


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, kept with the study."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_space(name: str) -> SearchSpace:
    """The search space of that name.

    Raises:
        NasError: where no file has the name, or the file does not define a `space` of it.
    """
    if "+" in name:
        raise NasError(
            f"spaces cannot be joined yet: {name!r}", f"type --space {name.partition('+')[0]}"
        )
    path = find(SPACES, name)
    space = getattr(_module(path), "space", None)
    if not isinstance(space, SearchSpace) or space.name != name:
        raise NasError(
            f"{path} does not define the search space {name!r}",
            f"it must say: space = SearchSpace({name!r}, decisions, build)",
        )
    return space


def load_objective(text: str) -> tuple[Objective, Callable[[Any], float]]:
    """The objective `FILE:NAME` of a file in `search_spaces/`, and its function.

    The objective is renamed to what the user typed.
    """
    file, _, name = text.partition(":")
    module = _module(find(SPACES, file))
    marked = {n: f for n, f in vars(module).items() if hasattr(f, "objective")}
    if name not in marked:
        raise unknown(f"objective of {file!r}", name, marked)
    found: Objective = marked[name].objective
    return Objective(text, found.unit, found.goal, found.needs), marked[name]


def _module(path: Path) -> ModuleType:
    """The executed file; a fault in a user's file becomes an error that names the line."""
    return _executed(path, file_digest(path))


@cache
def _executed(path: Path, _digest: str) -> ModuleType:
    name = f"search_spaces.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NasError(f"cannot read {path}", "it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except NasError:
        raise
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line(error, path)
        raise NasError(
            f"{path}, line {line}: {type(error).__name__}: {error}", "mend the file and try again"
        ) from error
    return module


def _line(error: BaseException, path: Path) -> int | str:
    """The last line of `path` in the traceback."""
    line: int | str = "?"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
