"""A source as the user typed it to a task: images by name, or the user's own function."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nas.catalog import import_object
from nas.core.architecture import digest
from nas.core.errors import NasError
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


def examples(task: Task, count: int) -> Any:
    """The first `count` training examples without their targets, the same at every call.

    Returns a tensor `(count, *task.input)`, of fewer rows where the task has fewer.
    """
    import torch

    rows, found = 0, []
    for inputs, *_ in task.batches("train", 0):
        found.append(inputs)
        rows += len(inputs)
        if rows >= count:
            break
    return torch.cat(found)[:count]


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
