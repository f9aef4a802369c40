"""Commands that make a study visible: report."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli.screen import Screen, shared


@click.command()
@click.argument("study")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where to write the page.",
)
@click.option("--device", metavar="D", help="The front shown first.  [default: the study's]")
@click.option(
    "--layers/--no-layers", default=True, help="Time the layers of the front's networks now."
)
@shared
def report(
    screen: Screen,
    study: str,
    output: Path,
    device: str | None,
    layers: bool,
    storage: str | None,
) -> None:
    """Write one page of all that a study found.

    It works offline: the front, its networks, how the search went, what decides, and a box that
    picks a point and says the command that exports it.

    nas report largekernel-digits-cpu --output report.html
    """
    from nas import api
    from nas.report.listings import report_table
    from nas.report.progress import Steps

    with Steps(screen.console(stderr=True), screen.quiet) as watch:
        found = api.report(
            study,
            output,
            device=device,
            layers=layers,
            storage=storage,
            watch=watch,
        )
    screen.answer(found, lambda width: report_table(found))
