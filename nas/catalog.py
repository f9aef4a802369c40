"""A name -> the file that says it: spaces, objectives and device profiles.

The user's working folder comes first, then what is shipped beside this package. Nothing is
registered: the file's name is the name.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.core.architecture import Choices
from nas.core.axis import Axis, join
from nas.core.errors import NasError, unknown
from nas.core.objective import Objective
from nas.core.space import SearchSpace
from nas.core.task import Task, TaskSpec

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


def load_space(name: str, network: str | None = None) -> SearchSpace:
    """The search space of that name, `SPACE`, `SPACE+AXIS+AXIS`, or with a network `AXIS+AXIS`.

    Args:
        name: names of files in `search_spaces/`, joined by `+`; the axes transform what the space
            builds.
        network: `PKG.MOD:FN` of a function of the task that returns a module; it stands in for a
            space, with no decisions of its own.

    Raises:
        NasError: where no file has a name, a file does not define a `space` or an `axis` of it, or
            they cannot be joined.
    """
    first, *rest = name.split("+")
    if network is not None:
        if isinstance(_defined(first), SearchSpace):
            raise NasError(
                f"the network {network} stands in for a space, and {first!r} is one",
                f"name axes alone: --space {'+'.join(rest) or '+'.join(axes()[:2])}",
            )
        return join(of_network(network), [load_axis(n) for n in (first, *rest)])
    found = _defined(first)
    if isinstance(found, Axis):
        raise NasError(
            f"{first!r} is an axis: it transforms the networks of a space",
            f"type --space largekernel+{name}, or bring a network: --network PKG.MOD:FN",
        )
    return join(found, [load_axis(n) for n in rest])


def spaces() -> list[str]:
    """Names of the files that define a network space; one that cannot be read is among them."""
    return [name for name in names(SPACES) if not _is_axis(name)]


def axes() -> list[str]:
    """Names of the files that define an axis."""
    return [name for name in names(SPACES) if _is_axis(name)]


def _is_axis(name: str) -> bool:
    try:
        return isinstance(_defined(name), Axis)
    except NasError:
        return False


def load_axis(name: str) -> Axis:
    """The axis of that name. Raises: NasError where no file has it or it is no axis."""
    found = _defined(name)
    if isinstance(found, SearchSpace):
        raise NasError(
            f"{name!r} is a space of networks, not an axis", "only one space can be named, first"
        )
    return found


def of_network(text: str) -> SearchSpace:
    """One network of the user's, `PKG.MOD:FN` of the task, as a space without decisions.

    Its preset `untouched` is the network itself, whatever axes are joined to it.
    """

    def build(choices: Choices, task: Task | TaskSpec) -> Any:
        return import_object(text, "network")(task)

    return SearchSpace(text, [], build, presets={"untouched": {}})


def _defined(name: str) -> SearchSpace | Axis:
    """What the file of that name in `search_spaces/` defines."""
    path = find(SPACES, name)
    module = _module(path)
    for found in (getattr(module, "space", None), getattr(module, "axis", None)):
        if isinstance(found, SearchSpace | Axis) and found.name == name:
            return found
    raise NasError(
        f"{path} does not define the search space {name!r}",
        f"it must say: space = SearchSpace({name!r}, decisions, build)",
    )


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


def import_object(text: str, what: str) -> Any:
    """What `PKG.MOD:FN` names, looked for in the working folder first.

    `what` is what it is for ("task", "network"), in the words of the error.
    Raises: NasError where there is no such module or name, or where importing it fails.
    """
    path, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in [*path.split("."), name]):
        raise NasError(
            f"not the name of a {what}: {text!r}",
            "write PKG.MODULE:FUNCTION, for example mine.nets:small",
        )
    module = _imported(path, text, what)
    if not hasattr(module, name):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise NasError(
            f"the module {path} has no {name!r} (from {text!r})",
            unknown("function", name, names).hint,
        )
    found = getattr(module, name)
    if not callable(found):
        raise NasError(
            f"{text} is {type(found).__name__}, not a function", f"name a {what}'s function"
        )
    return found


def _imported(path: str, text: str, what: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(error.name + ".")):
            near = [p.stem for p in Path(folder).glob("*.py")]
            raise NasError(
                f"no module {error.name!r} for the {what} {text!r}",
                unknown("module", path.partition(".")[0], near).hint + f" (in {folder})",
            ) from error
        raise NasError(
            f"the {what} {text!r} needs {error.name!r}, which is not installed",
            f"type pip install {error.name}",
        ) from error
    except Exception as error:  # whatever the user's module raises is the user's mistake
        raise NasError(
            f"importing {path} for the {what} {text!r} fails: {type(error).__name__}: {error}",
            f"type python -c 'import {path}' to see where",
        ) from error


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
