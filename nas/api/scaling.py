"""A point of a study, made to cost so many times as much by a published rule."""

from __future__ import annotations

import pprint
import re
from pathlib import Path
from typing import Any

from nas.api.places import storage_url
from nas.api.study import chosen
from nas.catalog import SPACES, load_space
from nas.core.architecture import Architecture, Choices
from nas.core.errors import NasError
from nas.core.scaling import LONG, scaling
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec
from nas.store.store import Store

FILE = '''"""{about}"""

from __future__ import annotations

from dataclasses import replace

from nas import Choice
from nas.catalog import load_space

CHOICES = {choices}
space = replace(
    load_space({origin!r}),
    name={name!r},
    decisions=[Choice(decision, [value]) for decision, value in CHOICES.items()],
    presets={{"scaled": CHOICES}},
)
'''


def scale(
    study: str,
    trial: int,
    factor: float,
    rule: str = "dwr",
    epochs: int = LONG,
    name: str | None = None,
    storage: str | None = None,
) -> dict[str, Any]:
    """Scales a trial's network, and counts what it became against what was asked for.

    Widths, depths and group widths are the rule's, rounded as its authors round; the resolution is
    what the scaled network should be trained and run at. Nothing is trained.

    Args:
        study, trial: the point.
        factor: how many times its MACs are wanted, below 1 for a smaller network.
        rule: `compound`, `dwr` or `resnet-rs` (`nas.core.scaling`).
        epochs: length of the training to come; `resnet-rs` deepens from 350 on, widens below.
        name: written to `search_spaces/NAME.py`, as a space of this one network.

    Returns: `choices`, `resolution`, and under `counts` for `params`, `macs` and `activations` what
        each was, is, and how many times that is; `written` and `train`, the commands.
    Raises: NasError for a space that does not say how it scales, or a name that is taken.
    """
    factors = scaling(rule, factor, epochs)
    with Store(storage_url(storage), read_only=True) as store:
        spec = store.spec(study)
        found = chosen(study, store.trials(study), trial)
    space = load_space(spec.space, spec.network)
    if space.scale is None:
        raise NasError(
            f"the space {spec.space!r} does not say how it scales",
            "give it SearchSpace(..., scale=function); largekernel, resnet, mbconv have one",
        )
    wider = {**found.architecture.choices, **space.scale(found.architecture.choices, factors)}
    channels, *sides = spec.task.input
    larger = TaskSpec(
        spec.task.source, (channels, *(factors.larger(s) for s in sides)), spec.task.outputs
    )
    before = _counts(space, found.architecture, spec.task)
    after = _counts(space, Architecture(spec.space, wider), larger)
    written = None if name is None else _write(name, spec.space, wider, study, trial, rule, factor)
    return {
        "study": study,
        "trial": trial,
        "space": spec.space,
        "rule": rule,
        "factor": factor,
        "factors": {
            "depth": factors.depth,
            "width": factors.width,
            "group": factors.group,
            "resolution": factors.resolution,
        },
        "choices": wider,
        "changed": {
            key: [found.architecture.choices[key], value]
            for key, value in wider.items()
            if value != found.architecture.choices[key]
        },
        "resolution": [list(sides), list(larger.input[1:])],
        "counts": {
            key: {"before": before[key], "after": after[key], "times": after[key] / before[key]}
            for key in before
        },
        "target_macs": round(factor * before["macs"]),
        "written": written,
        "train": _commands(name, spec.task.source),
    }


def _counts(space: SearchSpace, point: Architecture, task: TaskSpec) -> dict[str, int]:
    """Parameters, MACs and activations of a point, built without memory."""
    import torch

    from nas.hardware.counting import count

    with torch.device("meta"):
        counts = count(space.build(point.choices, task), task.input)
    return {"params": counts.params, "macs": counts.macs, "activations": counts.activations}


def _write(
    name: str, origin: str, choices: Choices, study: str, trial: int, rule: str, factor: float
) -> str:
    """A space of one network, in the folder where the user's own spaces are."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise NasError(f"{name!r} cannot be a space's name", "use letters, digits and _")
    path = Path.cwd() / SPACES[0] / f"{name}.py"
    if path.exists():
        raise NasError(f"{SPACES[0]}/{path.name} exists", "give another --name")
    path.parent.mkdir(exist_ok=True)
    about = f"Trial {trial} of the study {study}, scaled {factor:g} times by {rule}."
    listed = pprint.pformat(dict(choices), width=96, sort_dicts=False)
    path.write_text(FILE.format(about=about, choices=listed, origin=origin, name=name))
    return f"{SPACES[0]}/{name}.py"


def _commands(name: str | None, data: str) -> list[str]:
    """How the scaled network is trained: searched as the one point of its space, then finished."""
    space = name or "NAME"
    return [
        f"nas search --space {space} --data {data} --trials 1 --study {space}",
        f"nas train {space} 0",
    ]
