"""Commands that look at a study: front, pick, show, retarget, studies."""

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
        _draw(found, plot, device, storage)
        screen.remark(f"drawn: {plot}")
    if as_csv:
        screen.text(front_csv(found))
    else:
        screen.answer(front_document(found), lambda width: front_table(found, width))
    screen.next(["pick" if found.members else "show", study, *_of(device)])


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
    help="An objective, knee, or weights such as accuracy=2,latency_ms=1.  [default: the score "
    "under constraints, else knee]",
)
@click.option(
    "--confidence",
    type=float,
    metavar="P",
    help="Probability with which a repeat must keep the constraints.",
)
@click.option("--device", metavar="D", help="The numbers of this device.  [default: the study's]")
@shared
def pick(
    screen: Screen,
    study: str,
    constraints: tuple[str, ...],
    prefer: str | None,
    confidence: float | None,
    device: str | None,
    storage: str | None,
) -> None:
    """Pick one point of a front, and say why.

    A constraint may name another device that the study has numbers for, 'latency_ms@a100<=2', or a
    workload that nas retarget --workload timed: 'latency_ms.p99:b1-8<=12'.
    """
    from nas import api
    from nas.report.tables import pick_table

    found = api.pick(
        study,
        constraints=constraints,
        prefer=prefer,
        confidence=confidence,
        device=device,
        storage=storage,
    )
    screen.answer(found.to_json(), lambda width: pick_table(found))
    number = str(found.member.trial)
    screen.next(["train", study, number], ["export", study, number, "--output", "out/"])


@click.command()
@click.argument("study")
@click.argument("trial", type=int, required=False)
@click.option("--device", metavar="D", help="The numbers of this device.  [default: the study's]")
@click.option("--importance", is_flag=True, help="Which decisions decide reaching the front.")
@click.option("--proxies", is_flag=True, help="What proxies and short trainings tell early.")
@shared
def show(
    screen: Screen, study: str, trial: int | None, device: str | None, importance: bool,
    proxies: bool, storage: str | None,
) -> None:  # fmt: skip
    """Show all of a study, all of one trial, or what the study says of its space."""
    from nas import api
    from nas.report.tables import study_table, trial_table

    if importance or proxies:
        _whole(study, trial, device, importance, proxies)
        _told(screen, study, importance, storage)
        return
    found = api.show(study, trial, device=device, storage=storage)
    table = study_table if trial is None else trial_table
    screen.answer(found, lambda width: table(found))
    if trial is None and found["front"]:
        screen.next(["front", study, *_of(device)])
    elif trial is not None and found["state"] == "complete":
        screen.next(["export", study, str(trial), "--output", "out/"])


def _whole(
    study: str, trial: int | None, device: str | None, importance: bool, proxies: bool
) -> None:
    """Raises NasError where a part of a study is asked what only all of it can say."""
    flag = "--importance" if importance else "--proxies"
    if importance and proxies:
        raise NasError("--importance and --proxies are two tables", "leave one of them out")
    given = f"trial {trial}" if trial is not None else f"--device {device}"
    if trial is not None or device is not None:
        raise NasError(f"{flag} is of a whole study, not of {given}", f"nas show {study} {flag}")


def _told(screen: Screen, study: str, importance: bool, storage: str | None) -> None:
    """What a study says of its space: its decisions' importance, or what tells early."""
    from nas import api
    from nas.report.listings import correlations_table, importance_table

    ask = api.importance if importance else api.correlations
    table = importance_table if importance else correlations_table
    found = ask(study, storage=storage)
    screen.answer(found, lambda width: table(found))


@click.command()
@click.argument("study")
@click.option(
    "--device", required=True, metavar="D", help="Where to: see nas devices, or ssh://HOST/PROFILE."
)
@click.option("--runtime", metavar="R", help="What runs it there, such as torch:compiled.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only N candidates, those likeliest on a front first.  [default: all]",
)
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    metavar="W",
    help="What is timed: b1-8, r64, b1s4 (4 callers at once).  [default: b1]",
)
@click.option("--fresh", is_flag=True, help="Time again what was timed there before.")
@click.option("--take-over", is_flag=True, help="Write a study whose writer is thought dead.")
@shared
def retarget(
    screen: Screen,
    study: str,
    device: str,
    runtime: str | None,
    limit: int | None,
    fresh: bool,
    take_over: bool,
    workloads: tuple[str, ...],
    storage: str | None,
) -> None:
    """Take a study's candidates to another device, or to another workload.

    They are measured there, without training; where the device is not attached, predicted. What is
    timed is kept at once: the same command goes on where an interrupted one ended. Numbers of a
    workload can be limited then: nas pick STUDY --constraint 'latency_ms:b1-8<=12'
    """
    from nas import api
    from nas.report.documents import retarget_document
    from nas.report.progress import Steps
    from nas.report.tables import retarget_table

    with Steps(screen.console(stderr=True), screen.quiet) as watch:
        found = api.retarget(
            study,
            device,
            runtime=runtime,
            limit=limit,
            fresh=fresh,
            take_over=take_over,
            workloads=workloads,
            storage=storage,
            watch=watch,
        )
    screen.answer(retarget_document(found), lambda width: retarget_table(found, width))
    screen.next(["pick" if found.front.members else "show", study, "--device", found.front.device])


@click.command()
@click.option(
    "--create", is_flag=True, help="Make the database where there is none, and its tables."
)
@shared
def studies(screen: Screen, create: bool, storage: str | None) -> None:
    """List the studies of the database."""
    from nas import api
    from nas.report.listings import studies_table

    rows = api.studies(storage=storage, create=create)
    screen.answer(rows, lambda width: studies_table(rows))
    if rows:
        screen.next(["front", rows[-1]["name"]])
    else:
        screen.next(["search", "--space", "largekernel", "--device", "cpu", "--data", "digits"])


def _of(device: str | None) -> list[str]:
    """The option that names the device again in a command proposed."""
    return ["--device", device] if device else []


def _draw(found: Front, path: Path, device: str | None, storage: str | None) -> None:
    """The front as a picture; as a page, the report without what must be timed."""
    from nas import api
    from nas.report.documents import dominated
    from nas.report.plots import draw

    if path.suffix.lower() == ".html":
        api.report(found.study, path, device=device, layers=False, storage=storage)
        return
    others = dominated(found, api.show(found.study, device=device, storage=storage))
    draw(found, others, path, f"nas {__version__}  ·  {date.today()}")
