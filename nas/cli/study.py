"""Commands that look at a study or ship a point of it: front, pick, show, export, studies."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas import __version__
from nas.cli.screen import Screen, shared
from nas.core.errors import NasError

if TYPE_CHECKING:
    from nas.core.front import Front

FORMATS = ("onnx", "pt2", "openvino", "tensorrt")


@click.command()
@click.argument("study")
@click.option("--device", metavar="D", help="The numbers of this device.  [default: the study's]")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.html|png",
    help="Draw it, as a page or a picture.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@shared
def front(
    screen: Screen,
    study: str,
    device: str | None,
    plot: Path | None,
    as_csv: bool,
    storage: str | None,
) -> None:
    """Show a study's front, with intervals and membership."""
    from nas import api
    from nas.report.documents import front_csv, front_document
    from nas.report.tables import front_table

    if as_csv and screen.json:
        raise NasError("a front is printed either as --json or as --csv", "leave one of them out")
    found = api.front(study, device=device, storage=storage)
    if plot is not None:
        _draw(found, plot, storage)
        screen.remark(f"drawn: {plot}")
    if as_csv:
        screen.text(front_csv(found))
    else:
        screen.answer(front_document(found), lambda width: front_table(found, width))
    screen.next(["pick" if found.members else "show", study])


@click.command()
@click.argument("study")
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="TEXT",
    help="A limit such as 'latency_ms<=5'; repeat it.",
)
@click.option(
    "--prefer",
    metavar="NAME",
    help="An objective, or knee.  [default: the score under constraints, else knee]",
)
@click.option(
    "--confidence",
    type=float,
    metavar="P",
    help="Probability with which a repeat must keep the constraints.",
)
@shared
def pick(
    screen: Screen,
    study: str,
    constraints: tuple[str, ...],
    prefer: str | None,
    confidence: float | None,
    storage: str | None,
) -> None:
    """Pick one point of a front, and say why."""
    from nas import api
    from nas.report.tables import pick_table

    found = api.pick(
        study, constraints=constraints, prefer=prefer, confidence=confidence, storage=storage
    )
    screen.answer(found.to_json(), lambda width: pick_table(found))
    screen.next(["export", study, str(found.member.trial), "--output", "out/"])


@click.command()
@click.argument("study")
@click.argument("trial", type=int, required=False)
@shared
def show(screen: Screen, study: str, trial: int | None, storage: str | None) -> None:
    """Show all of a study, or all of one trial."""
    from nas import api
    from nas.report.tables import study_table, trial_table

    found = api.show(study, trial, storage=storage)
    table = study_table if trial is None else trial_table
    screen.answer(found, lambda width: table(found))
    if trial is None and found["front"]:
        screen.next(["front", study])
    elif trial is not None and found["state"] == "complete":
        screen.next(["export", study, str(trial), "--output", "out/"])


@click.command()
@click.argument("study")
@click.argument("trial", type=int)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write the file, its numbers and a README to.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="onnx",
    show_default=True,
    help="What the network is written as.",
)
@shared
def export(
    screen: Screen, study: str, trial: int, output: Path, form: str, storage: str | None
) -> None:
    """Write a trial's trained network as a file that runs."""
    from nas import api
    from nas.report.listings import export_table

    found = api.export(study, trial, output, format=form, storage=storage)
    screen.answer(found, lambda width: export_table(found))


@click.command()
@shared
def studies(screen: Screen, storage: str | None) -> None:
    """List the studies of the database."""
    from nas import api
    from nas.report.listings import studies_table

    rows = api.studies(storage=storage)
    screen.answer(rows, lambda width: studies_table(rows))
    if rows:
        screen.next(["front", rows[-1]["name"]])
    else:
        screen.next(["search", "--space", "largekernel", "--device", "cpu", "--data", "digits"])


def _draw(found: Front, path: Path, storage: str | None) -> None:
    from nas import api
    from nas.report.documents import dominated
    from nas.report.plots import draw

    others = dominated(found, api.show(found.study, storage=storage))
    draw(found, others, path, f"nas {__version__}  ·  {date.today()}")
