"""Commands that end in a file that runs: train, export, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nas.cli.screen import Screen, shared
from nas.core.errors import NasError

FORMATS = ("onnx", "pt2", "openvino", "tensorrt")


@click.command()
@click.argument("study")
@click.argument("trials", type=int, nargs=-1, required=True, metavar="TRIAL...")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Passes over all training images.  [default: 30, or the recipe's]",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="A published recipe: bag-of-tricks, rsb-a1, rsb-a2, rsb-a3, convnext, resnet-rs.",
)
@click.option(
    "--teacher",
    metavar="STUDY:TRIAL|PKG.MOD:FN",
    help="Learn from it too: a larger point, or your own network.",
)
@click.option(
    "--teacher-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What --teacher PKG.MOD:FN starts from, a .safetensors file.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    metavar="P",
    help="float32, bfloat16, or auto: the quicker here.",
)
@click.option("--runner", default="processes", show_default=True, metavar="NAME",
              help="Who does the work: inline, processes, ray.")  # fmt: skip
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many at once.  [default: all]",
)
@click.option("--address", metavar="A", help="A Ray cluster, for --runner ray.")
@click.option(
    "--resources",
    multiple=True,
    metavar="NAME=N",
    help="What one training takes of it, such as gpu=1.  [default: cpu=1]",
)
@click.option("--take-over", is_flag=True, help="Write a study whose writer is thought dead.")
@shared
def train(
    screen: Screen, study: str, trials: tuple[int, ...], storage: str | None, **options: Any
) -> None:
    """Train chosen trials to their end, from the weights that the search left.

    The same command goes on where an interrupted one ended; nas export then ships the finished
    weights.
    """
    from nas import api
    from nas.report.listings import train_table
    from nas.report.progress import Steps

    with Steps(screen.console(stderr=True), screen.quiet) as watch:
        found = api.train(study, trials, storage=storage, watch=watch, **options)
    screen.answer(found, lambda width: train_table(found))
    for said in found.get("absent", ()):
        screen.remark(f"not in this recipe {found['recipe']}: {said}")
    first = str(found["trained"][0]["trial"])
    screen.next(["export", study, first, "--output", "out/"])


@click.command()
@click.argument("study")
@click.argument("trial", type=int)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="New folder for the file, its card and infer.py.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="onnx",
    show_default=True,
    help="What the network is written as.",
)
@click.option("--runtime", metavar="R", help="What runs it, such as openvino:bf16 or torch:bf16.")
@click.option("--int8", is_flag=True, help="Quantize it, statically, as the axis bitwidth does.")
@click.option(
    "--preprocess-in-graph", is_flag=True, help="Take uint8 images; the graph normalises them."
)
@click.option(
    "--searched", is_flag=True, help="The search's weights, though nas train left others."
)
@click.option(
    "--images/--no-images",
    default=True,
    show_default=True,
    help="Put validation images in, for nas verify; else noise.",
)
@shared
def export(
    screen: Screen, study: str, trial: int, output: Path, form: str, storage: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Write a trial's trained network as a file that runs.

    The weights are those of nas train where the trial was trained to its end, else the search's.
    The file must agree with the trained network on validation images; a trial whose own file does
    not is marked, and leaves the front.
    """
    from nas import api
    from nas.report.listings import export_table

    found = api.export(study, trial, output, format=form, storage=storage, **options)
    screen.answer(found, lambda width: export_table(found))
    if "slower" in found:
        screen.remark(found["slower"]["line"])
    screen.next(["verify", str(output)])


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--trust", is_flag=True, help="Run a .pt2 or an engine, which could do anything.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Time it too.")
@click.option("--device", metavar="D", help="Where it runs.  [default: the card's, else cpu]")
@shared
def verify(
    screen: Screen, folder: Path, trust: bool, latency: bool,
    device: str | None, storage: str | None,
) -> None:  # fmt: skip
    """Check a package against its card: hashes, outputs, latency.

    Nothing in the package is run but its network, by its runtime. Exits with 2 where a check fails.
    """
    from nas import api
    from nas.report.listings import verify_table

    found = api.verify(folder, trust=trust, latency=latency, device=device)
    screen.answer(found, lambda width: verify_table(found))
    failed = [check for check in found["checks"] if check["passed"] is False]
    if failed:
        first = failed[0]
        raise NasError(
            f"{folder} is not what its card says: {first['name']}: {first['said']}",
            "take the package again from where it came from, or export the network again",
        )
