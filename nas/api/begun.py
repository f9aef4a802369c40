"""What a study was begun with, against what is said when it goes on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.core.errors import NasError
from nas.core.objective import Constraint
from nas.core.study import StudySpec
from nas.hardware.device import named

# each option that a study decides for good: its name, what the study has, and a word as it has it
_DECIDED: dict[str, tuple[str, Callable[[StudySpec], Any], Callable[[Any], Any]]] = {
    "space": ("space", lambda s: s.space, str),
    "network": ("network", lambda s: s.network, str),
    "weights": ("weights", lambda s: s.weights, lambda said: str(Path(said).absolute())),
    "device": ("device", lambda s: s.device, lambda said: named(said).name),
    "data": ("data", lambda s: s.task.source, str),
    "task": ("task", lambda s: s.task.source, str),
    "objectives": ("objective", lambda s: [o.name for o in s.objectives],
                   lambda said: said.rpartition(":")[2]),
    "constraints": ("constraint", lambda s: [str(c) for c in s.constraints],
                    lambda said: str(Constraint.parse(said))),
    "strategy": ("strategy", lambda s: s.strategy, str),
    "promotion": ("promotion", lambda s: s.promotion, str),
    "presets": ("preset", lambda s: [p for p in s.presets if p != "untouched"], str),
    "epochs": ("epochs", lambda s: s.fidelity.epochs, int),
    "precision": ("precision", lambda s: s.recipe.get("precision", "float32"), str),
    "seed": ("seed", lambda s: s.seed, int),
}  # fmt: skip


def decided(spec: StudySpec, said: Mapping[str, Any], unsaid: Mapping[str, Any]) -> None:
    """Refuses to go on with another search than was begun.

    Args:
        said: the options of the call, by name. unsaid: what they are where nobody says anything.

    Raises:
        NasError: naming the first option that differs.
    """
    for name, (option, begun_with, as_kept) in _DECIDED.items():
        value, begun = said[name], begun_with(spec)
        if value == unsaid[name] or not value:
            continue
        several = isinstance(begun, list)
        kept = [as_kept(one) for one in value] if several else as_kept(value)
        if kept != begun:
            _refuse(spec, option, begun if several else [begun], value if several else [value])
    tried = {start.origin.split()[1] for start in spec.starts}  # of each that was not crowded out
    if said["sources"] and tried.isdisjoint(said["sources"]):
        _refuse(spec, "from", sorted(tried), said["sources"])


def _refuse(spec: StudySpec, option: str, begun: Sequence[Any], said: Sequence[Any]) -> None:
    was = " ".join(f"--{option} {shlex.quote(str(b))}" for b in begun if b is not None)
    now = " ".join(f"--{option} {shlex.quote(str(s))}" for s in said)
    raise NasError(
        f"study {spec.name!r} was begun {f'with {was}' if was else f'without --{option}'}, "
        f"and goes on so: not with {now}",
        f"leave --{option} out; or begin another study: no --resume, and --study NAME",
    )
