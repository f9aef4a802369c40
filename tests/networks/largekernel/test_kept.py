"""What is measured once: kept whatever processes and threads do, never made up."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from nas.networks.largekernel import kept


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def never() -> object:
    raise AssertionError("this is not asked for")


def test_what_does_not_fit_is_measured_anew() -> None:
    assert kept.kept("a", lambda: 1, never) == 1
    assert kept.kept("a", never, never, lambda value: value == 1) == 1
    assert kept.kept("a", lambda: 2, never, lambda value: value == 2) == 2
    assert json.loads(kept.path().read_text()) == {"a": 2}


def test_what_stands_in_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that could not be written for a while does not keep what nobody measured."""

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kept, "_write", full)
        assert kept.kept("a", lambda: 1, lambda: 0) == 0
    assert kept.kept("a", never, never) == 0  # as before, for as long as this process lives
    assert kept.kept("b", lambda: 3, never) == 3
    assert json.loads(kept.path().read_text()) == {"b": 3}


def test_trouble_while_measuring_is_not_that_of_the_folder() -> None:
    def without_compiler() -> object:
        raise FileNotFoundError("cc")

    with pytest.raises(RuntimeError, match="cannot measure a"):
        kept.kept("a", without_compiler, never)


def test_one_measurement_may_need_another() -> None:
    assert kept.kept("outer", lambda: kept.kept("inner", lambda: 2, never) + 1, never) == 3
    assert json.loads(kept.path().read_text()) == {"inner": 2, "outer": 3}


def test_threads_wait_for_each_other() -> None:
    begun, on = threading.Event(), threading.Event()
    found = []

    def slowly() -> int:
        begun.set()
        on.wait(30)
        return 1

    first = threading.Thread(target=lambda: found.append(kept.kept("a", slowly, never)))
    second = threading.Thread(target=lambda: found.append(kept.kept("a", lambda: 2, never)))
    first.start()
    begun.wait(30)
    second.start()
    on.set()
    first.join(30)
    second.join(30)
    assert found == [1, 1]


def test_a_process_forked_meanwhile_holds_nothing_back() -> None:
    """It has the open file too; without the lock's release it would hold it for all its life."""
    reading, writing = os.pipe()
    children = []

    def measured() -> int:
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent is done
            os._exit(0)
        children.append(child)
        return 1

    kept.kept("a", measured, never)
    os.close(reading)
    assert kept.kept("b", lambda: 2, never) == 2
    os.close(writing)
    assert os.waitpid(children[0], 0)[1] == 0
