"""Where a command's answer goes: one document or a table on stdout, remarks on stderr."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from nas.api.places import DEFAULT_STORAGE
from nas.store.secrets import masked

if TYPE_CHECKING:  # rich takes longer to load than a page of help takes to print
    from rich.console import Console, RenderableType

Command = Callable[..., None]


@dataclass(frozen=True)
class Screen:
    """How one command speaks.

    Args:
        json: stdout gets one JSON document and nothing else.
        quiet: stderr gets errors only.
        color: whether a terminal may be coloured.
        storage: the database as the user named it, to be repeated in the commands proposed.
    """

    json: bool = False
    quiet: bool = False
    color: bool = True
    storage: str | None = None

    def console(self, stderr: bool = False) -> Console:
        """A console for tables (stdout) or for what a search shows (stderr)."""
        from rich.console import Console

        plain = not self.color or bool(os.environ.get("NO_COLOR"))
        return Console(
            stderr=stderr, no_color=plain or None, highlight=False, markup=False, emoji=False
        )

    def answer(self, document: Any, shown: Callable[[int], RenderableType]) -> None:
        """Prints the document under --json, else what `shown` makes for that many columns."""
        if self.json:
            self.text(json.dumps(finite(document), indent=2, allow_nan=False) + "\n")
            return
        console = self.console()
        with console.capture() as captured:  # written by us, so that a closed pipe stays quiet
            console.print(shown(console.width))
        self.text(captured.get())

    def text(self, text: str) -> None:
        """Writes text to stdout as it is."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def remark(self, text: str) -> None:
        """Says something beside the answer, unless quiet."""
        if not self.quiet:
            click.echo(text, err=True)

    def next(self, *commands: Sequence[str]) -> None:
        """Proposes what to type next, ready to be copied."""
        for place, words in enumerate(commands):
            lead = "next: " if place == 0 else "      "
            self.remark(lead + self.command(words))

    def command(self, words: Sequence[str]) -> str:
        """A command of `nas` on this database, ready to be copied."""
        where = ["--storage", masked(self.storage)] if self.storage else []
        return shlex.join(["nas", *words, *where])


def shared(function: Command) -> Command:
    """Gives a command the options that all have, and a `Screen` as its first argument.

    The command also gets `storage`.
    """

    @click.option(
        "--storage",
        envvar="NAS_STORAGE",
        metavar="URL",
        help=f"Study database.  [default: {DEFAULT_STORAGE}, or NAS_STORAGE]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @click.option("--quiet", is_flag=True, help="Say nothing but the answer and errors.")
    @click.option("--no-color", is_flag=True, help="Never colour.")
    @functools.wraps(function)
    def wrapped(
        storage: str | None, as_json: bool, quiet: bool, no_color: bool, **options: Any
    ) -> None:
        typed = click.get_current_context().get_parameter_source("storage")
        named = storage if typed is click.core.ParameterSource.COMMANDLINE else None
        screen = Screen(as_json, quiet, not no_color, named)
        # what a cluster lacks or a tracker fails at, said beside the answer
        logging.getLogger("nas").setLevel(logging.ERROR if quiet else logging.WARNING)
        function(screen, storage=storage, **options)

    return wrapped  # fmt: skip


def finite(data: Any) -> Any:
    """The data with numbers that JSON does not know (infinite, not a number) as null."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data
