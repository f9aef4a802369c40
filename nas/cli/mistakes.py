"""Mistakes on the command line in the two lines that every mistake gets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

import click


def usage(error: click.UsageError, group: click.Group, arguments: Sequence[str]) -> tuple[str, str]:
    """A usage error of click's in our two lines."""
    path = error.ctx.command_path if error.ctx else "nas"
    if path == "nas" and arguments[0] in group.commands:
        path = f"nas {arguments[0]}"  # click does not always say whose option it was
    more = f"see: {path} --help"
    if isinstance(error, click.NoSuchOption):
        known = [o for p in error.ctx.command.params for o in p.opts] if error.ctx else []
        near = get_close_matches(error.option_name, known, n=2, cutoff=0.6)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{path} has no option {error.option_name}", guess + more
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        needed = _needed(error.ctx.command)
        words = [f"{' '.join(p.opts[:1])} {p.make_metavar(error.ctx)}" if isinstance(p, click.Option)
                 else p.make_metavar(error.ctx) for p in needed]  # fmt: skip
        missing = words[needed.index(error.param)] if error.param in needed else "more"
        return f"{path} needs {missing}", f"type: {' '.join([path, *words])}"
    message = wording(error.format_message())
    return f"{path}: {message[:1].lower()}{message[1:]}", more


def _needed(command: click.Command) -> list[click.Parameter]:
    """The parameters that a command cannot do without."""
    return [p for p in command.params if p.required]


def wording(message: str) -> str:
    """A message of click's in plainer words.

    >>> wording("'many' is not a valid integer range.")
    "'many' is not a whole number"
    """
    for words in ("integer range", "integer"):
        message = message.replace(f"a valid {words}", "a whole number")
    for words in ("float range", "float"):
        message = message.replace(f"a valid {words}", "a number")
    return re.sub(r"'\[(\w+)\]'", r"'\1'", message.rstrip("."))
