"""Help, exit codes and the two lines of every mistake."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from example_study import toy_store

from nas import api
from nas.cli.main import commands
from nas.core.errors import NasError

from .conftest import ROOT, Asked, Nas, process

Snapshot = Callable[[str, str], None]
HEAVY = ("torch", "sqlalchemy", "optuna", "onnx", "matplotlib", "rich", "ray")

ERRORS: dict[str, tuple[str, ...]] = {
    "unknown_command": ("serch",),
    "unknown_option": ("front", "digits-1", "--dvice", "cpu"),
    "unknown_option_nothing_near": ("front", "digits-1", "--xyzzy"),
    "missing_argument": ("front",),
    "missing_option": ("export", "digits-1", "3"),
    "missing_value": ("search", "--space"),
    "bad_number": ("search", "--trials", "many"),
    "number_out_of_range": ("search", "--trials", "0"),
    "bad_trial": ("show", "digits-1", "third"),
    "bad_format": ("export", "digits-1", "3", "--output", "out", "--format", "zip"),
    "one_argument_too_many": ("pick", "digits-1", "3"),
    "no_recipe": ("search", "largekernel"),
    "csv_and_json": ("front", "digits-1", "--csv", "--json"),
    "unknown_study": ("show", "digits-2"),
    "bad_constraint": ("pick", "digits-1", "--constraint", "latency < 5"),
    "unknown_objective": ("pick", "digits-1", "--constraint", "latency<=5"),
    "impossible": ("pick", "digits-1", "--constraint", "latency_ms<=0.05"),
    "impossible_with_confidence": (
        "pick", "digits-1", "--constraint", "accuracy>=99", "--confidence", "0.9"),
    "bad_confidence": ("pick", "digits-1", "--confidence", "90"),
    "bad_preference": ("pick", "digits-1", "--prefer", "acuracy"),
    "bad_plot": ("front", "digits-1", "--plot", "front.svg"),
    "no_target": ("profile", "--device", "cpu"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["nas", *commands.commands])
def test_help(name: str, nas: Nas, snapshot: Snapshot) -> None:
    answer = nas(*([] if name == "nas" else [name]), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert max(map(len, answer.out.splitlines())) <= 80
    snapshot(f"help_{name}", answer.out)


def test_help_names_every_published_recipe(nas: Nas) -> None:
    from nas.training.published import PUBLISHED

    told = " ".join(nas("train", "--help").out.split())
    assert f"A published recipe: {', '.join(PUBLISHED)}." in told


def test_nas_alone_is_help(nas: Nas) -> None:
    assert nas().out == nas("--help").out == nas("-h").out
    assert nas().code == 0


def test_version(nas: Nas) -> None:
    assert nas("--version").out.startswith("nas ")


@pytest.mark.parametrize("name", ERRORS)
def test_mistakes_are_two_lines(name: str, nas: Nas, asked: Asked, snapshot: Snapshot) -> None:
    answer = nas(*ERRORS[name])
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 2
    snapshot(f"error_{name}", f"$ nas {' '.join(ERRORS[name])}\n{answer.err}")


def test_names_of_others_cannot_add_lines(nas: Nas, asked: Asked) -> None:
    answer = nas("show", "two\nlines")
    assert answer.code == 2
    assert answer.err.count("\n") == 2


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*given: Any, **options: Any) -> Any:
        raise error

    return call


def test_a_bug_keeps_its_traceback(nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(api), "devices", raising(ZeroDivisionError("oops")))
    answer = nas("devices")
    assert (answer.code, answer.out) == (1, "")
    assert "ZeroDivisionError: oops" in answer.err
    assert answer.err.endswith("please report the lines above\n")


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 2), (errno.EROFS, 2), (errno.EACCES, 2), (errno.ECHILD, 1)],
)
def test_a_disk_that_refuses_is_no_bug(
    number: int, code: int, nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(number, os.strerror(number), "out/file")
    monkeypatch.setitem(vars(api), "devices", raising(error))
    answer = nas("devices")
    assert answer.code == code
    if code == 2:
        assert answer.err.startswith(f"cannot write 'out/file': {os.strerror(number)}\n  ")
        assert answer.err.count("\n") == 2


def test_an_interrupt_of_any_command(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(api), "devices", raising(KeyboardInterrupt()))
    answer = nas("devices")
    assert (answer.code, answer.err) == (130, "interrupted\n  nothing is lost; type it again\n")


def test_an_error_of_ours_passes_through(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(api), "devices", raising(NasError("it is so", "do thus")))
    assert nas("devices").err == "it is so\n  do thus\n"


def loaded(*arguments: str, cwd: str) -> list[str]:
    """Which heavy packages a command loads, and that it worked."""
    code = (
        "import sys, json\nfrom nas.cli.main import run\n"
        f"code = run({list(arguments)!r})\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = process("-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stderr.splitlines()[-1]))


def test_help_loads_nothing_heavy(tmp_path: Any) -> None:
    assert loaded("--help", cwd=str(tmp_path)) == []
    assert loaded("search", "--help", cwd=str(tmp_path)) == []
    assert loaded("--print-completion", "zsh", cwd=str(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("front", "toy"), ("front", "toy", "--csv"), ("show", "toy"), ("show", "toy", "0"),
     ("pick", "toy"), ("studies",), ("spaces",), ("devices",), ("doctor",)],
)  # fmt: skip
def test_looking_never_loads_torch(command: tuple[str, ...], tmp_path: Any) -> None:
    toy_store(tmp_path)
    assert not {"torch", "matplotlib", "optuna", "onnx"} & set(loaded(*command, cwd=str(tmp_path)))


@pytest.mark.slow
def test_a_report_of_what_is_stored_never_loads_torch(tmp_path: Any) -> None:
    toy_store(tmp_path)
    assert "torch" not in loaded("report", "toy", "--output", "r.html", cwd=str(tmp_path))


def test_help_takes_less_than_a_third_of_a_second() -> None:
    spent = []
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-m", "nas", "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)  # of this child alone
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        spent.append(used.ru_utime + used.ru_stime)
    assert min(spent) < 0.3  # processor time: the clock of a shared machine says little


def test_a_closed_pipe_is_quiet(tmp_path: Any) -> None:
    toy_store(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "nas", "front", "toy", "--quiet"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 0


def test_sigterm_is_an_interrupt() -> None:
    code = (
        "import os, signal, sys\nfrom nas import api\n"
        "vars(api)['devices'] = lambda *a: os.kill(os.getpid(), signal.SIGTERM) or []\n"
        "sys.argv = ['nas', 'devices']\nfrom nas.cli.main import main\nmain()"
    )
    done = process("-c", code)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted\n  nothing is lost; type it again\n"
