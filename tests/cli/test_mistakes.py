from __future__ import annotations

import click
import pytest

from nas.cli.mistakes import usage, wording


@click.group()
def tools() -> None:
    """Tools."""


@tools.command()
@click.argument("what")
@click.option("--size", required=True, metavar="N")
@click.option("--colour")
def cut(what: str, size: str, colour: str) -> None:
    """Cut."""


def said(*arguments: str) -> tuple[str, str]:
    with pytest.raises(click.UsageError) as caught, tools.make_context("nas", list(arguments)) as c:
        tools.invoke(c)
    return usage(caught.value, tools, arguments)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["cut"], ("nas cut needs WHAT", "type: nas cut WHAT --size N")),
        (["cut", "x"], ("nas cut needs --size N", "type: nas cut WHAT --size N")),
        (["cut", "x", "--color", "red"],
         ("nas cut has no option --color", "did you mean --colour? see: nas cut --help")),
        (["cut", "x", "--size"],
         ("nas cut: option '--size' requires an argument", "see: nas cut --help")),
        (["--loud"], ("nas has no option --loud", "see: nas --help")),
    ],
)  # fmt: skip
def test_two_lines(arguments: list[str], lines: tuple[str, str]) -> None:
    assert said(*arguments) == lines


def test_wording() -> None:
    assert wording("'x' is not a valid float range.") == "'x' is not a number"
    assert wording("Invalid value for '[TRIAL]': 'x' is not a valid integer.") == (
        "Invalid value for 'TRIAL': 'x' is not a whole number"
    )
