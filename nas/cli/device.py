"""Commands about what can be built and what it runs on: profile, spaces, devices, doctor."""

from __future__ import annotations

import click

from nas.cli.screen import Screen, shared


@click.command()
@click.argument("target")
@click.option(
    "--device",
    required=True,
    metavar="D",
    help="Where it runs: see nas devices, or ssh://HOST/PROFILE.",
)
@click.option("--runtime", metavar="R", help="What runs it there, such as torch:compiled.")
@click.option(
    "--resolution",
    type=click.IntRange(min=1),
    metavar="N",
    help="Side of the square input.  [default: the task's own, 224 for presets]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Examples in one call.",
)
@click.option("--by-layer", is_flag=True, help="Add what every layer costs.")
@click.option("--static", is_flag=True, help="Count only; measure nothing.")
@shared
def profile(
    screen: Screen,
    target: str,
    device: str,
    runtime: str | None,
    resolution: int | None,
    batch: int,
    by_layer: bool,
    static: bool,
    storage: str | None,
) -> None:
    """Say what one network costs on a device.

    TARGET is SPACE[:PRESET], STUDY:TRIAL, or PKG.MOD:FN, a function of the task that returns a
    module.
    """
    from nas import api
    from nas.report.listings import profile_table

    found = api.profile(
        target,
        device,
        runtime=runtime,
        resolution=resolution,
        batch=batch,
        by_layer=by_layer,
        static=static,
        storage=storage,
    )
    screen.answer(found, lambda width: profile_table(target, found))
    if "space" in found:
        under = ["--runtime", runtime] if runtime else []
        screen.next(["search", "--space", found["space"], "--device", device, *under])


@click.command()
@shared
def spaces(screen: Screen, storage: str | None) -> None:
    """List the search spaces found, and the axes (+NAME) that can be joined to them."""
    from nas import api
    from nas.report.listings import spaces_table

    rows = api.spaces()
    screen.answer(rows, lambda width: spaces_table(rows))
    usable = [r["name"] for r in rows if "error" not in r and r.get("kind") != "axis"]
    if usable:
        screen.next(["search", "--space", usable[0], "--device", "cpu", "--data", "digits"])


@click.command()
@click.option("--address", metavar="A", help="A Ray cluster to look at too.  [env: RAY_ADDRESS]")
@shared
def devices(screen: Screen, address: str | None, storage: str | None) -> None:
    """List the device profiles: which are here, which in a cluster, which only predicted."""
    from nas import api
    from nas.report.listings import devices_table

    rows = api.devices(address)
    screen.answer(rows, lambda width: devices_table(rows))
    here = [row["name"] for row in rows if row.get("attached")]
    if here:
        screen.next(["search", "--space", "largekernel", "--device", here[0], "--data", "digits"])


@click.command()
@shared
def doctor(screen: Screen, storage: str | None) -> None:
    """Say what this machine has, and what adds what it lacks."""
    from nas import api
    from nas.report.listings import doctor_table

    rows = api.doctor(storage=storage)
    screen.answer(rows, lambda width: doctor_table(rows))
