"""What can be searched, on what, and what one network costs there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.catalog import (
    DEVICES,
    SPACES,
    axes,
    find,
    load_axis,
    load_space,
    names,
    of_network,
    shadowed,
)
from nas.catalog import spaces as spaces_named
from nas.core.axis import join
from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.hardware.device import attached, load, named
from nas.hardware.prediction.calibration import FOLDER, level, unreadable
from nas.hardware.runtimes import KINDS, installed

STANDARD = TaskSpec("digits", (3, 32, 32), 10)


def spaces() -> list[dict[str, Any]]:
    """Every search space and axis found, with its size and presets at 32x32 pixels."""
    rows = []
    for name in [*spaces_named(), *axes()]:
        row: dict[str, Any] = {"name": name, "file": str(find(SPACES, name))}
        try:
            axis = name in axes()
            found = join(of_network("any:network"), [load_axis(name)]) if axis else load_space(name)
            space = found.at(STANDARD)
            row |= {
                "kind": "axis" if axis else "space",
                "about": _about(find(SPACES, name)),
                "decisions": len(space.listed),
                "size": space.size,
                "presets": [] if axis else sorted(space.presets),
                "shadows": shadowed(SPACES, name),
            }
        except NasError as error:
            row["error"] = str(error)
        rows.append(row)
    return rows


def devices(address: str | None = None) -> list[dict[str, Any]]:
    """Every device profile found, and where its latencies come from.

    `attached` says whether this machine has it, `nodes` how many of the Ray cluster's nodes do
    (None where no cluster is named, by `address` or `RAY_ADDRESS`), `predicted` what predictions
    start from otherwise (`anchored`, `table`, `datasheet`, or None where nothing is known).
    A profile that cannot be read has its `error` instead, and so has a calibration, in a row of
    its own.
    `runtime` is its default, `runtimes` all that such a device has, with their versions on this
    machine, None where one is not installed.
    """
    known, broken, here = [], [], installed()
    for name in names(DEVICES):
        try:
            known.append(load(find(DEVICES, name)))
        except NasError as error:
            broken.append({"name": name, "error": str(error)})
    for path, why in unreadable().items():
        broken.append({"name": f"{FOLDER}/{path.name}", "error": str(why)})
    address = address or os.environ.get("RAY_ADDRESS")
    nodes: dict[str, int] = {}
    if address:
        from nas.runners.ray import nodes_with

        nodes = nodes_with(known, address)
    return [
        {
            "name": device.name,
            "title": device.title,
            "kind": device.kind,
            "runtime": str(device.engine),
            "runtimes": {n: v for n, v in here.items() if device.kind in KINDS[n]},
            "attached": attached(device),
            "nodes": nodes.get(device.name),
            "predicted": level(device),
            "file": str(find(DEVICES, device.name)),
            "shadows": shadowed(DEVICES, device.name),
        }
        for device in known
    ] + broken


def profile(
    target: str,
    device: str,
    runtime: str | None = None,
    resolution: int | None = None,
    batch: int = 1,
    by_layer: bool = False,
    static: bool = False,
    storage: str | None = None,
) -> dict[str, Any]:
    """What a network costs: counts of both forms; unless `static` also latency, memory and energy.

    On a device that is not attached to this machine the latency is predicted, and says so; peak
    memory is counted there, and energy is absent, as it is wherever no counter can be read.

    Args:
        target: `SPACE[:PRESET]` (without a preset, a random point), `STUDY:TRIAL`, or
            `PKG.MOD:FN`, a function of the task that returns a module.
        device: where it is timed. runtime: what runs it there, `NAME[:OPTION+OPTION]`; the
            device's own by default.
        resolution: side of the square input; the task's own by default (224 for presets).
        batch: examples in one call.
        by_layer: adds what every layer costs: its counts, and its share of a measured latency.
        static: no timing.
    """
    from nas.profiling import profile_architecture, profile_module

    found = named(device).under(runtime)
    head, _, tail = target.partition(":")
    options = {"device": None if static else found, "batch": batch, "by_layer": by_layer}
    if head.partition("+")[0] in names(SPACES):
        side = resolution or (224 if tail else 32)
        task = replace(STANDARD, input=(3, side, side), outputs=1000 if tail else 10)
        return profile_architecture(load_space(head).at(task), tail or None, task, **options)
    if tail.isdigit():
        return _stored(head, int(tail), resolution, options, storage)
    if tail and ("." in head or Path(f"{head}.py").is_file()):
        side = resolution or 224
        return profile_module(
            target, replace(STANDARD, input=(3, side, side), outputs=1000), **options
        )
    return _unknown(target)


def _stored(
    study: str, trial: int, resolution: int | None, options: dict[str, Any], storage: str | None
) -> dict[str, Any]:
    """A trial of a study, rebuilt from its choices."""
    from nas.api.places import storage_url
    from nas.api.study import chosen
    from nas.profiling import profile_architecture
    from nas.store.store import Store

    with Store(storage_url(storage), read_only=True) as store:
        spec = store.spec(study)
        found = chosen(study, store.trials(study), trial)
    task = spec.task
    if resolution is not None:
        task = replace(task, input=(task.input[0], resolution, resolution))
    return profile_architecture(
        load_space(spec.space, spec.network).at(task), found.architecture, task, **options
    )


def _unknown(target: str) -> dict[str, Any]:
    listed = ", ".join(names(SPACES))
    raise NasError(
        f"nothing to profile is named {target!r}",
        f"type SPACE:PRESET, STUDY:TRIAL or PKG.MOD:FN; the spaces are: {listed}",
    )


def _about(path: Path) -> str:
    """The first line of a space file's docstring, read without running the file."""
    import ast

    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0]
