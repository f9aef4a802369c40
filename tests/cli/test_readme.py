"""Every `nas` command that the README shows can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from nas.cli.main import commands

README = Path(__file__).parents[2] / "README.md"


def shown(text: str) -> list[list[str]]:
    """The `nas` commands in the bash blocks of a text, as words after `nas`."""
    found = []
    for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            for part in split(words):
                names = [i for i, word in enumerate(part) if Path(word).name == "nas"]
                if names and all("=" in word for word in part[: names[0]]):
                    found.append(part[names[0] + 1 :])
    return found


def split(words: list[str]) -> list[list[str]]:
    """The words of a shell line, cut at the signs that join commands."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", "|", ";", ">", "2>"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def parse(words: list[str]) -> None:
    """Parses a command's words without running it. Raises: click's errors, or NasError."""
    context = click.Context(commands, info_name="nas")
    if not words or words[0].startswith("-"):
        commands.make_context("nas", words)
        return
    command = commands.get_command(context, words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=context)


def test_commands_are_found_in_blocks() -> None:
    text = "```bash\n. venv/bin/activate && NAS_STORAGE=x venv/bin/nas front a | head\n# nas no\n"
    text += "$ nas search \\\n  --space big   # all of it\npip install nas\n```\nnas not here\n"
    assert shown(text) == [["front", "a"], ["search", "--space", "big"]]


@pytest.mark.parametrize("words", [["front"], ["front", "a", "--bad"], ["search", "--trials", "x"]])
def test_what_cannot_be_typed_is_noticed(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(words)


@pytest.mark.skipif(not README.exists(), reason="there is no README.md yet")
def test_every_command_of_the_readme_parses() -> None:
    found = shown(README.read_text(encoding="utf-8"))
    assert found, "README.md shows no nas command"
    for words in found:
        parse(words)
