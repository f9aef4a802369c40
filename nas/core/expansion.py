"""One step larger: what a network of a space becomes with one more layer, or wider."""

from __future__ import annotations

from nas.core.architecture import Choices, Value
from nas.core.decision import Choice, Integer
from nas.core.space import SearchSpace

SIZES = (".depth", ".width")  # how decisions end that say how much of a network there is


def expansions(space: SearchSpace, choices: Choices) -> dict[str, dict[str, Value]]:
    """The next larger value of each depth and width, as choices, by the decision's name.

    What the space refuses beside the other choices is left out.

    >>> space = SearchSpace("toy", [Choice("a.depth", [1, 2, 4])], build=lambda choices, task: None)
    >>> expansions(space, {"a.depth": 2}), expansions(space, {"a.depth": 4})
    ({'a.depth': {'a.depth': 4}}, {})
    """
    found: dict[str, dict[str, Value]] = {}
    for decision in space.active(choices):
        name = decision.name
        if not isinstance(decision, Choice | Integer) or not f".{name}".endswith(SIZES):
            continue
        now, values = choices[name], decision.values
        if isinstance(decision, Choice):
            values = decision.allowed(choices)
        larger = sorted(v for v in values if isinstance(v, int | float) and v > now)  # type: ignore[operator]
        if larger and not space.check({**choices, name: larger[0]}):
            found[name] = {**choices, name: larger[0]}
    return found
