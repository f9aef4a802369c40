from __future__ import annotations

import json

import pytest
from rich.text import Text

from nas.cli.screen import Screen, finite


def test_numbers_that_json_does_not_know_are_null() -> None:
    given = {"a": [float("inf"), 1.5, (float("nan"),)], "b": {"c": float("-inf"), "d": "inf"}}
    assert finite(given) == {"a": [None, 1.5, [None]], "b": {"c": None, "d": "inf"}}


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=True).answer({"a": float("inf")}, lambda width: Text("not shown"))
    assert json.loads(capsys.readouterr().out) == {"a": None}


def test_next_commands_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(storage="sqlite:///my studies/nas.db").next(["front", "a b"], ["pick", "x"])
    assert capsys.readouterr().err == (
        "next: nas front 'a b' --storage 'sqlite:///my studies/nas.db'\n"
        "      nas pick x --storage 'sqlite:///my studies/nas.db'\n"
    )


def test_quiet_keeps_remarks_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(quiet=True)
    screen.remark("aside")
    screen.next(["front", "a"])
    screen.answer({}, lambda width: Text("answer"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("answer\n", "")


@pytest.mark.parametrize(("color", "env"), [(False, ""), (True, "1")])
def test_colour_can_be_refused(color: bool, env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Screen().console().capture() as coloured:
        pass
    monkeypatch.setenv("NO_COLOR", env)
    console = Screen(color=color).console()
    with console.capture() as plain:
        console.print(Text("x", style="red"))
    assert plain.get() == "x\n"
    assert coloured.get() == ""
