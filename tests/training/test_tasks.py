import sys

import pytest

from nas.catalog import import_object
from nas.core.errors import NasError
from nas.training.recipe import Recipe
from nas.training.tasks import (
    brief_recipe,
    describe,
    is_function,
    load_task,
    prepare,
)

MINE = """
import torch
from nas import Task

def circles():
    batches = lambda split, seed: iter([(torch.zeros(2, 3), torch.zeros(2))])
    return Task((3,), 1, batches, None, None, score_name="r2", score_unit="")

def nothing():
    return None

size = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_digits():
    spec = describe("digits")
    assert (spec.input, spec.outputs, spec.score_name) == ((3, 32, 32), 10, "accuracy")
    task = load_task("digits", brief_recipe("digits"))
    assert task.spec("digits") == spec
    assert load_task("digits", brief_recipe("digits")) is task


def test_sources_that_are_functions():
    assert is_function("a.b:c")
    assert not is_function("folder:c")
    assert not is_function("digits")
    assert not is_function("a/b:c")


def test_a_users_task(folder):
    (folder / "mine_tasks.py").write_text(MINE)
    spec = describe("mine_tasks:circles")
    assert (spec.score_name, spec.outputs) == ("r2", 1)
    assert len(spec.digest) == 32
    assert load_task("mine_tasks:circles", Recipe()).digest == spec.digest
    prepare("mine_tasks:circles")
    assert brief_recipe("mine_tasks:circles").flip is False


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("mine", "not the name of a task: 'mine'", "PKG.MODULE:FUNCTION"),
        ("mine_task:circles", "no module 'mine_task' for the task", "did you mean 'mine_tasks'"),
        ("mine_tasks:circle", "the module mine_tasks has no 'circle'", "did you mean 'circles'"),
        ("mine_tasks:size", "mine_tasks:size is int, not a function", "name a task's function"),
        ("broken:f", "importing broken for the task 'broken:f' fails: ZeroDivisionError", "import"),
        ("needy:f", "needs 'no_such_package', which is not installed", "pip install"),
    ],
)
def test_names_that_lead_nowhere(folder, text, problem, hint):
    (folder / "mine_tasks.py").write_text(MINE)
    (folder / "broken.py").write_text("1 / 0")
    (folder / "needy.py").write_text("import no_such_package")
    with pytest.raises(NasError) as error:
        import_object(text, "task")
    assert problem in error.value.problem
    assert hint in error.value.hint


def test_a_task_must_be_one(folder):
    (folder / "mine_tasks.py").write_text(MINE)
    with pytest.raises(NasError, match="returned NoneType, not a Task"):
        describe("mine_tasks:nothing")


def test_prepare_finds_the_unreadable_image(image_folder):
    images = image_folder({"cat": 5, "dog": 5})
    (images / "dog" / "zzz.jpg").write_bytes(b"no image")
    with pytest.raises(NasError, match=r"dog/zzz\.jpg cannot be read"):
        prepare(f"folder:{images}")
