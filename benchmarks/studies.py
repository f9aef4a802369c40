"""Runs a study's recipe and writes its table beside it.

    python benchmarks/studies.py studies/adapter-digits.toml

The recipe names its study; what of it is done already is not done again. `studies/NAME.md` is then
the front with its intervals, and each point against the first trial, which is the untouched network
where one was given and the published one that the recipe tries first where it names one: the
difference of what is scored, the ratio of what is counted or timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.cli.search import read_recipe
from nas.report.networks import grouped, telling

PACKAGES = ("torch", "onnxruntime", "numpy")
NAS = (sys.executable, "-m", "nas")


def nas(*words: str) -> dict[str, Any]:
    """What a command of `nas` answers."""
    done = subprocess.run([*NAS, *words, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(recipe: Path, storage: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The front and the study of a recipe, and the trial that is picked."""
    name = read_recipe(recipe).get("study")
    if not name:
        raise SystemExit(f"{recipe} names no study")
    begun = subprocess.run([*NAS, "show", name, *storage], capture_output=True, check=False)
    if begun.returncode == 0:
        front = nas("search", "--study", name, "--resume", *storage)
    else:
        front = nas("search", str(recipe), *storage)
    return front, nas("show", name, *storage), nas("pick", name, *storage)["trial"]


def cell(found: Mapping[str, Any] | None) -> str:
    """`97.5 [95.1, 99.0]`, or the number alone where it is counted."""
    if found is None:
        return "-"
    if found["low"] == found["high"]:
        return f"{found['value']:.4g}"
    return f"{found['value']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"


def against(found: Mapping[str, Any] | None, first: Mapping[str, Any] | None) -> str:
    """`+1.2` where the unit is a percentage, else `0.25x`."""
    if found is None or first is None:
        return "-"
    if found["unit"] == "%":
        return f"{found['value'] - first['value']:+.2f}"
    return f"{found['value'] / first['value']:.3g}x" if first["value"] else "-"


def table(recipe: Path, front: Mapping[str, Any], study: Mapping[str, Any], picked: int) -> str:
    """The study in Markdown."""
    names = [o["name"] for o in front["objectives"]]
    units = {o["name"]: o["unit"] for o in front["objectives"]}
    first = study["rows"][0]
    counted = ", ".join(f"{n} {state}" for state, n in front["trials"].items() if n)
    versions = ", ".join(f"{p} {version(p)}" for p in PACKAGES)
    date = datetime.now(UTC).date().isoformat()
    heads = ["trial", *(f"{n}, {units[n]}" for n in names), "on the front", "choices"]
    heads += [f"{n} against trial 0" for n in names]
    lines = [
        f"# {front['study']}",
        "",
        f"`python benchmarks/studies.py {recipe}`, {date}, {versions}, Python "
        f"{platform.python_version()}. Space `{front['space']}` on `{front['device']}`: {counted}. "
        f"Hypervolume {front['hypervolume']:.4g} of the reference {front['reference']}.",
        "",
        "Brackets hold a repeat of the whole step with 90 %. The last columns are each point "
        f"against trial 0{_what(recipe)}: differences of percentages, ratios of the rest.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]  # fmt: skip
    shown = [(member, f"{member['membership']:.0%}") for member in front["front"]]
    if first["trial"] not in {m["trial"] for m in front["front"]}:
        shown.append((first, "no"))
    order = telling(row["choices"] for row, _ in shown)
    lines += [_row(row, first, names, on, picked, order) for row, on in shown]
    lines += ["", "**Bold** is what `nas pick` takes.", ""]
    return "\n".join(lines)


def _what(recipe: Path) -> str:
    """What the first trial is, where the recipe says so."""
    said = read_recipe(recipe)
    if "network" in said:
        return ", the untouched network"
    return f", which is `{said['preset']}` as published" if "preset" in said else ""


def _row(
    row: Mapping[str, Any],
    first: Mapping[str, Any],
    names: Sequence[str],
    on: str,
    picked: int,
    order: Sequence[str],
) -> str:
    have, base = row["measurements"], first["measurements"]
    values = [cell(have.get(n)) for n in names]
    ratios = [against(have.get(n), base.get(n)) for n in names]
    rows = grouped(row["choices"])
    said = ", ".join(f"{name} {rows[name]}" for name in order if name in rows)
    number = f"**{row['trial']}**" if row["trial"] == picked else str(row["trial"])
    return "| " + " | ".join([number, *values, on, said, *ratios]) + " |"


def main() -> None:
    """Runs, and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--storage", help="a database; studies/nas.db by default")
    given = parser.parse_args()
    storage = ("--storage", given.storage) if given.storage else ()
    front, study, picked = run(given.recipe, storage)
    path = given.recipe.with_suffix(".md")
    path.write_text(table(given.recipe, front, study, picked))
    print(path)


if __name__ == "__main__":
    main()
