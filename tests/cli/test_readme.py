"""Every `nas` command that the README or a help shows can be typed."""

from __future__ import annotations

import shlex

import click
import pytest
from readme import README, shown

from nas.cli.examples import EXAMPLES
from nas.cli.main import commands


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


def test_every_command_has_examples_that_can_be_typed() -> None:
    assert set(EXAMPLES) == set(commands.commands)
    for name, lines in EXAMPLES.items():
        for line in lines:
            words = shlex.split(line)
            assert words[:2] == ["nas", name]
            assert len(line) <= 76
            parse(words[1:])
