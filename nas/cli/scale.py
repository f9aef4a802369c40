"""The command that makes a point of a study cost so many times as much."""

from __future__ import annotations

import click

from nas.cli.screen import Screen, shared


@click.command()
@click.argument("study")
@click.argument("trial", type=int)
@click.option(
    "--factor", type=float, required=True, metavar="X", help="How many times its MACs: 8, or 0.5."
)
@click.option(
    "--rule",
    default="dwr",
    show_default=True,
    metavar="RULE",
    help="compound (EfficientNet), dwr (fast scaling) or resnet-rs.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=350,
    show_default=True,
    metavar="N",
    help="Of the training to come: resnet-rs deepens from 350, widens below.",
)
@click.option("--name", metavar="NAME", help="Write it to search_spaces/NAME.py.")
@shared
def scale(
    screen: Screen, study: str, trial: int, factor: float, rule: str, epochs: int,
    name: str | None, storage: str | None,
) -> None:  # fmt: skip
    """Make a point deeper, wider and finer by a published rule.

    Counts what it costs then, against what was asked for. With --name it becomes a space of one
    network, which nas search and nas train take like any other.
    """
    from nas import api
    from nas.report.scaled import scale_table

    found = api.scale(
        study, trial, factor=factor, rule=rule, epochs=epochs, name=name, storage=storage
    )
    screen.answer(found, lambda width: scale_table(found))
    if name is not None:
        screen.next(["profile", f"{name}:scaled", "--device", "cpu", "--static"])
