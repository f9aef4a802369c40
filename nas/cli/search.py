"""`nas search`: options or a recipe, one call, a live view, the front."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nas.cli.mistakes import wording
from nas.cli.screen import Screen, shared
from nas.core.errors import NasError, unknown
from nas.store.secrets import masked

NOT_IN_RECIPES = {"recipe", "as_json", "quiet", "no_color"}


@click.command()
@click.argument("recipe", required=False, type=click.Path(path_type=Path), metavar="[RECIPE.toml]")
@click.option("--space", metavar="S[+AXIS...]", help="What is searched; see: nas spaces")
@click.option(
    "--network",
    metavar="PKG.MOD:FN",
    help="Your own network for the axes of --space to transform; it is trial 0.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What --network starts from, a .safetensors file.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="D",
    help="What it must run on: see nas devices, or ssh://HOST/PROFILE.",
)
@click.option("--runtime", metavar="R", help="What runs it there, such as torch:compiled.")
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="DATA",
    help="digits, folder:PATH (or a .zip of it) or hf:NAME.",
)
@click.option("--task", metavar="PKG.MOD:FN", help="Your own task instead of --data.")
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    metavar="NAME|FILE:NAME",
    help="What to trade off; repeat it.  [default: accuracy, latency_ms]",
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="TEXT",
    help="A hard limit: 'latency_ms<=5', 'latency_ms.p99:b1-8<=12'; repeat it.",
)
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="NAME",
    help="A published network to try first; repeat it.",
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="STUDY",
    help="A study whose front is tried first; repeat it.",
)
@click.option(
    "--strategy",
    default="surrogate",
    show_default=True,
    metavar="NAME",
    help="Who proposes what to try next.",
)
@click.option(
    "--promotion",
    default="halving",
    show_default=True,
    metavar="NAME",
    help="Who trains on at a rung: none, halving, hyperband.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="N",
    help="Recorded trials over the study's life.",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    metavar="H",
    help="Begin no trial after so many hours.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Full training of a candidate in the search.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="NAME",
    help="What candidates train in: float32, bfloat16, or fastest, as measured on each worker.",
)
@click.option(
    "--runner",
    default="processes",
    show_default=True,
    metavar="NAME",
    help="Who does the work: inline, processes, ray.",
)
@click.option(
    "--workers",
    "--max-concurrent",
    "workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many jobs at once; more than fit on a cluster ask its autoscaler for nodes.  "
    "[default: as many as cores, or as fit on the cluster]",
)
@click.option("--address", metavar="A", help="The Ray cluster.  [default: Ray's own choice]")
@click.option(
    "--resources",
    multiple=True,
    metavar="NAME=N",
    help="What one job takes of a cluster, such as gpu=0.25.  [default: cpu=1]",
)
@click.option(
    "--callback",
    "callbacks",
    multiple=True,
    metavar="NAME",
    help="Who else is told: mlflow, tensorboard (in studies/tune), wandb; repeat it.",
)
@click.option(
    "--predict-after",
    type=click.FloatRange(min=0),
    metavar="MINUTES",
    help="Predict for a device whose node left so long ago.  [default: wait for it]",
)
@click.option(
    "--artifacts",
    metavar="PATH|URL",
    help="Where trained files go; all workers must reach it.  [default: beside the database]",
)
@click.option("--study", metavar="NAME", help="Name of the study.  [default: made up]")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Everything random comes from it.",
)
@click.option("--resume", is_flag=True, help="Go on with --study.")
@click.option("--take-over", is_flag=True, help="Write a study whose writer is thought dead.")
@click.option("--changed", is_flag=True, help="Resume though files of the study have changed.")
@click.option("--fresh", is_flag=True, help="Reuse no earlier result.")
@click.option(
    "--proxies/--no-proxies",
    default=True,
    help="Compute zero-cost proxies of each network; see: nas show --proxies",
)
@click.option("--dry-run", is_flag=True, help="Check everything, search nothing.")
@shared
@click.pass_context
def search(context: click.Context, /, screen: Screen, recipe: Path | None, **options: Any) -> None:
    """Search a space for a device; ends with a front.

    The options may also stand in a file, under [search], by their long names:
    nas search studies/RECIPE.toml
    """
    from nas import api
    from nas.report.documents import front_document
    from nas.report.live import view
    from nas.report.tables import front_table

    if recipe is not None:
        options = from_recipe(context, recipe, options)
    watch = view(screen.console(stderr=True), screen.quiet)
    try:
        with watch:
            found = api.search(**options, recipe=recipe, watch=watch)
    except KeyboardInterrupt:
        _interrupted(context, options, watch.last)
    if options["dry_run"]:
        screen.answer(front_document(found), lambda width: f"study {found.study!r} can be searched")
        return
    screen.answer(front_document(found), lambda width: front_table(found, width))
    _any_left(screen, found, options["storage"])
    propose(screen, found)


def _any_left(screen: Screen, found: Any, storage: str | None) -> None:
    """Raises NasError with the first trial's error where every trial failed."""
    from nas import api

    failed = found.trials.get("failed", 0)
    if failed and failed == sum(found.trials.values()):
        why = str(api.show(found.study, 0, storage=storage)["error"]).partition("\n")[0]
        count = f"all {failed} trials" if failed > 1 else "the only trial"
        raise NasError(
            f"{count} of {found.study!r} failed, the first with: {why}",
            screen.command(["show", found.study, "0"]),
        )


def propose(screen: Screen, found: Any) -> None:
    """What to type after a search: look at the front, pick a point, ship it."""
    if not found.members:
        screen.next(["show", found.study])
        return
    from nas.report.pick import pick

    knee = str(pick(found).member.trial)
    screen.next(
        ["report", found.study, "--output", "report.html"],
        ["pick", found.study],
        ["export", found.study, knee, "--output", "out/"],
    )


def from_recipe(context: click.Context, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The options with a recipe's values; what was typed wins over the recipe.

    Raises:
        NasError: for a file that cannot be read, an unknown name or a value of the wrong kind.
    """
    known = {
        name.removeprefix("--"): p for p in context.command.params for name in p.opts
        if isinstance(p, click.Option) and p.name not in NOT_IN_RECIPES
    }  # fmt: skip
    merged = dict(options)
    for name, value in read_recipe(path).items():
        if name not in known:
            raise unknown(f"option in {path}", name, known)
        option = known[name]
        key = str(option.name)
        if context.get_parameter_source(key) is not ParameterSource.COMMANDLINE:
            merged[key] = _typed(context, path, option, value)
    return merged


def read_recipe(path: Path) -> dict[str, Any]:
    """The [search] table of a recipe."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NasError(
            f"no recipe at {str(path)!r}",
            f"name a .toml file; a space goes behind its option: nas search --space {path}",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NasError(f"cannot read the recipe {str(path)!r}: {error}",
                       "it is a TOML file with a table [search]") from None  # fmt: skip
    others = [name for name in data if name != "search"]
    if others or not isinstance(data.get("search"), dict):
        named = f": it has {', '.join(others)} outside [search]" if others else ""
        raise NasError(f"{str(path)!r} is not a recipe{named}",
                       "put the options under one table: [search]")  # fmt: skip
    return dict(data["search"])


def _typed(context: click.Context, path: Path, option: click.Option, value: Any) -> Any:
    """A value of the recipe as the option would have it."""
    said, see = f"{path}: {_long(option)} = {json.dumps(value, default=str)}", _see(context)
    if option.is_flag != isinstance(value, bool):
        wanted = "true or false" if option.is_flag else "one of its values"
        raise NasError(f"{said} is not {wanted}", see)
    if option.multiple and not isinstance(value, list):
        value = [value]
    if isinstance(value, dict) or (isinstance(value, list) and not option.multiple):
        raise NasError(f"{said} is more than one value", see)
    try:
        return option.type_cast_value(context, value)
    except click.BadParameter as error:
        raise NasError(f"{path}: {_long(option)}: {wording(error.message)}", see) from None


def _see(context: click.Context) -> str:
    return f"see: {context.command_path} --help"


def _long(option: click.Parameter) -> str:
    return option.opts[0].removeprefix("--")


# what a study does not remember, and may be another the next time
_OF_A_CALL = (
    "storage", "runner", "workers", "address", "resources", "callbacks", "predict_after",
)  # fmt: skip


def _interrupted(context: click.Context, options: dict[str, Any], last: Any) -> None:
    """Says what is kept and how to go on; exits with 130."""
    if last is None:
        raise KeyboardInterrupt
    done = sum(t.state != "running" for t in last.trials)
    words = ["nas", "search", "--study", last.spec.name, "--resume", *_again(context, options)]
    click.echo(
        f"interrupted: {done} of {last.spec.trials} trials of {last.spec.name!r} are kept\n"
        f"  go on: {shlex.join(words)}",
        err=True,
    )
    context.exit(130)


def _again(context: click.Context, options: dict[str, Any]) -> list[str]:
    """The options of this call that were typed or came from a recipe, to be typed again."""
    known, words = {p.name: p for p in context.command.params}, []
    for name in _OF_A_CALL:
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed or options[name] != context.params[name]:
            value = options[name]
            for one in value if isinstance(value, tuple) else (value,):
                text = masked(one) if name == "storage" else str(one)
                words += [f"--{_long(known[name])}", text]
    return words
