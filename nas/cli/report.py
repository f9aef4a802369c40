"""Commands that make a study visible: report, dashboard."""

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


@click.command()
@click.argument("study")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Who may look.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="N",
    help="Where it listens; 0 takes any that is free.",
)
@shared
def dashboard(screen: Screen, study: str, host: str, port: int, storage: str | None) -> None:
    """Serve Optuna's dashboard on a study, also while its search runs.

    It needs one more package: pip install -c constraints.txt -e '.[dashboard]'
    """
    from contextlib import suppress

    from nas import api

    def ready(address: str) -> None:
        if screen.json:
            screen.answer({"study": study, "address": address}, lambda width: address)
        else:
            screen.text(f"{address}\n")
        screen.remark("Ctrl-C ends it")

    with suppress(KeyboardInterrupt):
        api.dashboard(study, host=host, port=port, storage=storage, ready=ready)
