"""Commands on tables of numbers: replay, calibrate."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli.screen import Screen, shared


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--strategy", default="surrogate", show_default=True, metavar="NAME", help="Who proposes."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    metavar="N",
    help="Evaluations of each run.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many runs.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many trials train at once, on the simulated clock.",
)
@click.option(
    "--promotion",
    default="none",
    show_default=True,
    metavar="NAME",
    help="Who trains on at a rung: none, halving, hyperband.",
)
@shared
def replay(
    screen: Screen,
    table: Path,
    strategy: str,
    trials: int,
    seeds: int,
    workers: int,
    promotion: str,
    storage: str | None,
) -> None:
    """Run a strategy on a tabulated benchmark, without training.

    TABLE is a folder with a table.toml. The curve is hypervolume over evaluations, as a share of
    the table's true front.
    """
    from nas import api
    from nas.report.listings import replay_table

    found = api.replay(table, strategy, trials, seeds, workers, promotion)
    screen.answer(found, lambda width: replay_table(found))


@click.command()
@click.argument("device")
@click.option(
    "--csv",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Networks or operators measured on the device.  [default: measure them here]",
)
@shared
def calibrate(screen: Screen, device: str, csv: Path | None, storage: str | None) -> None:
    """Fit what predictions for a device rest on, from measurements."""
    from nas import api
    from nas.report.listings import record_table

    found = api.calibrate(device, csv)
    screen.answer(found, lambda width: record_table(found))
