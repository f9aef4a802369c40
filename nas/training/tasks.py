"""A source as the user typed it to a task: images by name, or the user's own function."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.core.architecture import digest
from nas.core.errors import NasError, unknown
from nas.core.task import Task, TaskSpec
from nas.training import data
from nas.training.recipe import Recipe, brief


def is_function(source: str) -> bool:
    """Whether a source reads `PKG.MOD:FN` rather than as images.

    >>> is_function("mine.tasks:segmentation"), is_function("folder:photos")
    (True, False)
    """
    module, colon, name = source.partition(":")
    names = [*module.split("."), name]
    plain = all(part.isidentifier() for part in names)
    return bool(colon) and plain and module not in ("folder", "hf", "digits")


def describe(source: str) -> TaskSpec:
    """What the program knows of `digits`, `folder:PATH`, `hf:NAME` or `PKG.MOD:FN`, as data.

    Images are not decoded and torch is not imported; a function of the user's is called, which
    may do both. Raises: NasError where there is no such source.
    """
    if is_function(source):
        return _own(source).spec(source)
    facts = data.describe(source)
    return TaskSpec(
        source, facts.input, len(facts.classes), examples=facts.images, digest=facts.digest
    )


def brief_recipe(source: str) -> Recipe:
    """The recipe of a search on a source; torch is not imported. Raises: NasError as `describe`."""
    if is_function(source):
        return Recipe(flip=False, shift=0.0)
    return brief(source, data.describe(source).images)


def prepare(source: str) -> None:
    """Decodes the images of a source into the cache, so that workers share them.

    Raises: NasError naming the first image that cannot be read, before anything is trained.
    """
    if not is_function(source):
        data.load(source)


@lru_cache(maxsize=2)
def load_task(source: str, recipe: Recipe) -> Task:
    """The task of a source; a function of the user's does not look at the recipe's augmentation.

    Kept for the process, so that the jobs of a worker share it. Raises: NasError as `describe`.
    """
    if is_function(source):
        return _own(source)
    from nas.training.classification import image_classification

    return image_classification(data.load(source), recipe)


def _own(source: str) -> Task:
    """The task a function of the user's returns, with a digest if it gave none."""
    function = import_object(source, "task")
    task = function()
    if not isinstance(task, Task):
        raise NasError(
            f"{source} returned {type(task).__name__}, not a Task", "return nas.Task(...) from it"
        )
    if task.digest:
        return task
    file = getattr(sys.modules[source.partition(":")[0]], "__file__", None)
    text = Path(file).read_bytes() if file else b""
    return replace(task, digest=digest([source, hashlib.sha256(text).hexdigest()]))


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
    module = _module(path, text, what)
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


def _module(path: str, text: str, what: str) -> ModuleType:
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
