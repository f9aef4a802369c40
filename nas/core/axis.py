"""An axis: a search space whose points transform any network, joined to others by `+`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.core.architecture import Choices, Value
from nas.core.decision import Choice, Decision
from nas.core.errors import NasError
from nas.core.scaling import Scaling
from nas.core.space import Decisions, SearchSpace
from nas.core.task import Task, TaskSpec


@dataclass(frozen=True)
class Axis:
    """Decisions about a network that exists already, and the transform that they name.

    The first value of every decision leaves the network as it is.

    Args:
        name: the axis's name, the file's name.
        decisions: as a space's; in a joint space each is called `AXIS.DECISION`.
        transform: `transform(choices, task)` returns the `nas.transforms.stages.Transform` to
            apply; it imports torch itself.
        trained: of its own choices what a training depends on, all of them where None: networks
            of which that is the same share one training.
    """

    name: str
    decisions: Decisions | Callable[[TaskSpec], Decisions]
    transform: Callable[[Choices, Task | TaskSpec], Any]
    trained: Callable[[Choices], Choices] | None = None

    def listed(self, task: TaskSpec) -> tuple[Decision, ...]:
        """Its decisions for a task, under their names in a joint space."""
        found = self.decisions(task) if callable(self.decisions) else self.decisions
        return tuple(self._named(decision) for decision in found)

    def own(self, choices: Choices) -> dict[str, Value]:
        """Its part of a joint space's choices, under its own names."""
        start = f"{self.name}."
        return {k.removeprefix(start): v for k, v in choices.items() if k.startswith(start)}

    def _named(self, decision: Decision) -> Decision:
        start = f"{self.name}."
        changed: dict[str, Any] = {"name": start + decision.name}
        if decision.when:
            changed["when"] = {start + k: v for k, v in decision.when.items()}
        if isinstance(decision, Choice) and decision.within:
            changed["within"] = {start + k: v for k, v in decision.within.items()}
        return replace(decision, **changed)


def join(base: SearchSpace, axes: Sequence[Axis]) -> SearchSpace:
    """The networks of a space, each transformed in every way of the axes: one point, one key.

    A network space's decisions keep their names, so what another study found in it can be taken up
    (`SearchSpace.repair` adds values that transform nothing). Its presets become points with
    nothing transformed.

    Raises: NasError where an axis is named twice, or a decision has an axis's name.

    >>> space = SearchSpace("toy", [Choice("kernel", [3, 7])], build=lambda choices, task: None)
    >>> bits = Axis("bits", [Choice("weights", [32, 8])], transform=lambda choices, task: None)
    >>> joint = join(space, [bits]).at(None)
    >>> joint.name, [d.name for d in joint.listed]
    ('toy+bits', ['kernel', 'bits.weights'])
    """
    if not axes:
        return base
    names = [axis.name for axis in axes]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise NasError(f"axis {twice!r} is named twice", "name each axis once")

    def decisions(task: TaskSpec) -> list[Decision]:
        listed = base.at(task).listed
        for decision in listed:
            if decision.name.partition(".")[0] in names:
                raise NasError(
                    f"space {base.name!r} has a decision {decision.name!r}, as the axis has",
                    "rename the decision, or leave the axis out",
                )
        return [*listed, *(d for axis in axes for d in axis.listed(task))]

    def build(choices: Choices, task: Task | TaskSpec) -> Any:
        starts = tuple(f"{name}." for name in names)
        own = {k: v for k, v in choices.items() if not k.startswith(starts)}
        return base.build(own, task)

    def transforms(choices: Choices, task: Task | TaskSpec) -> list[Any]:
        return [axis.transform(axis.own(choices), task) for axis in axes]

    def trained(choices: Choices) -> Choices:
        kept = dict(choices)
        for axis in axes:
            own = axis.own(choices)
            part = own if axis.trained is None else axis.trained(own)
            for name in own:
                del kept[f"{axis.name}.{name}"]
            kept |= {f"{axis.name}.{name}": value for name, value in part.items()}
        return kept

    grown = base.scale

    def scale(choices: Choices, rule: Scaling) -> dict[str, Value]:
        assert grown is not None
        starts = tuple(f"{name}." for name in names)
        own = {k: v for k, v in choices.items() if not k.startswith(starts)}
        return {**choices, **grown(own, rule)}

    return SearchSpace(
        "+".join([base.name, *names]),
        decisions,
        build,
        dict(base.presets),
        transforms,
        scale if grown else None,
        trained=trained,
    )
