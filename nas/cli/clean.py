"""The command that gives disk back."""

from __future__ import annotations

import click

from nas.cli.screen import Screen, shared


@click.command()
@click.argument("study")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@shared
def gc(screen: Screen, study: str, dry_run: bool, storage: str | None) -> None:
    """Remove the files of a study that nobody needs.

    What the front, finished trainings, trainings under way and other studies rest on stays, and
    every number does. A network whose files are gone is trained again where it is asked for.
    """
    from rich.text import Text

    from nas import api

    found = api.gc(study, dry_run=dry_run, storage=storage)
    verb = "would remove" if dry_run else "removed"
    screen.answer(
        found,
        lambda width: Text(
            f"{verb} {found['files']} files, {found['bytes'] / 1e6:,.1f} MB; "
            f"{found['kept_files']} stay, {found['kept_bytes'] / 1e6:,.1f} MB"
        ),
    )
