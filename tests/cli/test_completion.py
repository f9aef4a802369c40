"""What a shell is told when a person presses Tab."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from example_study import toy_store

from nas.cli import completion
from nas.cli.main import commands

from .conftest import ROOT, Nas


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_its_script(shell: str, nas: Nas) -> None:
    answer = nas("--print-completion", shell)
    assert (answer.code, answer.err) == (0, "")
    assert f"{completion.VARIABLE}={shell}_complete" in answer.out


def test_another_shell_is_refused(nas: Nas) -> None:
    answer = nas("--print-completion", "cmd")
    assert answer.code == 2
    assert "'bash', 'zsh', 'fish'" in answer.err


def offered(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setenv(completion.VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert completion.answer(commands) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.partition(",")[2] for line in lines if line]


def test_commands_options_and_names_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_store(tmp_path)
    monkeypatch.chdir(tmp_path)

    def ask(*words: str) -> list[str]:
        return offered(list(words), monkeypatch, capsys)

    assert ask("nas", "dash") == ["dashboard"]
    assert ask("nas", "front", "t") == ["toy"]
    assert ask("nas", "report", "toy", "--dev") == ["--device"]
    assert ask("nas", "search", "--space", "large") == ["largekernel"]
    assert "a100" in ask("nas", "profile", "x", "--device", "a1")
    assert ask("nas", "serch", "--d") == []


def test_no_database_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered(["nas", "front", "t"], monkeypatch, capsys) == []


def test_bash_completes_with_it(tmp_path: Path) -> None:
    """The script as bash runs it, with the program on its path."""
    toy_store(tmp_path)
    (tmp_path / "nas").write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m nas "$@"\n'
    )
    (tmp_path / "nas").chmod(0o755)
    (tmp_path / "nas.bash").write_text(completion.script("bash", commands))
    typed = ("PATH=.:$PATH; source nas.bash; COMP_WORDS=(nas front to); COMP_CWORD=2;"
             "_nas_completion nas; echo \"${COMPREPLY[@]}\"")  # fmt: skip
    done = subprocess.run(["bash", "-c", typed], cwd=tmp_path, capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    assert done.stdout == "toy\n"


def test_every_study_argument_is_completed() -> None:
    completion.teach(commands)
    for command in commands.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and parameter.name == "study":
                assert "shell_complete" in vars(parameter)
