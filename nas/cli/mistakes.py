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
        words = {p.name: _word(p, error.ctx) for p in error.ctx.command.params if p.required}
        missing = words.get(str(error.param and error.param.name), "more")
        return f"{path} needs {missing}", f"type: {' '.join([path, *words.values()])}"
    message = wording(error.format_message())
    return f"{path}: {message[:1].lower()}{message[1:]}", more


def _word(parameter: click.Parameter, context: click.Context) -> str:
    """A parameter as it is typed: `STUDY`, `--output DIR`."""
    metavar = parameter.make_metavar(context)
    return f"{parameter.opts[0]} {metavar}" if isinstance(parameter, click.Option) else metavar


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
