"""Completion in bash, zsh and fish: `nas --print-completion bash` prints what a shell is to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from nas.core.errors import NasError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_NAS_COMPLETE"  # set by the printed script: `bash_complete`


def script(shell: str, commands: click.Group) -> str:
    """What the shell runs once to know how to complete `nas`.

    >>> "_NAS_COMPLETE=fish_complete" in script("fish", click.Group("nas"))
    True
    """
    found = get_completion_class(shell)
    assert found is not None  # one of `SHELLS`
    made = found(commands, {}, "nas", VARIABLE)
    return made.source_template % made.source_vars()


def answer(commands: click.Group) -> int:
    """Prints what the words typed so far may go on with; nothing where they make no sense."""
    shell = os.environ[VARIABLE].partition("_")[0]
    found = get_completion_class(shell)
    if found is None:
        return 1
    teach(commands)
    try:
        click.echo(found(commands, {}, "nas", VARIABLE).complete())
    except NasError:  # an unknown command, or a database that cannot be read
        return 0
    return 0


def teach(commands: click.Group) -> None:
    """Lets names of studies, spaces and devices be completed wherever they are typed."""
    names: dict[str, Callable[[], Iterable[str]]] = {
        "study": _studies, "space": _spaces, "device": _devices, "sources": _studies,
        "runtime": _runtimes,
    }  # fmt: skip
    for command in commands.commands.values():
        for parameter in command.params:
            if parameter.name in names:
                parameter.shell_complete = _completing(  # type: ignore[method-assign, assignment]
                    names[parameter.name]
                )


def _completing(
    names: Callable[[], Iterable[str]],
) -> Callable[[click.Context, str], list[CompletionItem]]:
    def complete(context: click.Context, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete)]

    return complete


def _studies() -> Iterable[str]:
    from nas import api

    try:
        return [row["name"] for row in api.studies()]
    except NasError:  # there is no database yet
        return []


def _spaces() -> Iterable[str]:
    from nas.catalog import axes, spaces

    return [*spaces(), *axes()]


def _devices() -> Iterable[str]:
    from nas.catalog import DEVICES, names

    return names(DEVICES)


def _runtimes() -> Iterable[str]:
    from nas.hardware.runtimes import KINDS

    return KINDS
