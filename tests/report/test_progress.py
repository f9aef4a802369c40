from __future__ import annotations

import io

from rich.console import Console

from nas.report.progress import Steps


def shown(terminal: bool, quiet: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=terminal, color_system=None)
    with Steps(console, quiet) as steps:
        for done in range(41):
            steps.on("timing on board", done, 40)
        steps.on("predicting on a100", 0, 0)
        steps.on("predicting on a100", 0, 0)
    return text.getvalue()


def test_lines_at_both_ends_and_at_every_fifth() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines == [f"timing on board: {n}/40" for n in (0, 8, 16, 24, 32, 40)]


def test_a_bar_on_a_terminal_is_gone_at_the_end() -> None:
    text = shown(terminal=True)
    assert "timing on board" in text and "40/40" in text
    assert "timing on board: " not in text


def test_quiet_says_nothing() -> None:
    assert shown(terminal=False, quiet=True) == shown(terminal=True, quiet=True) == ""
