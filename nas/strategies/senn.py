"""Self-expanding networks: small ones that grow where a natural gradient says that it pays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.core.architecture import Architecture, Value
from nas.core.errors import NasError
from nas.core.expansion import SIZES, expansions
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.strategies.protocol import proposal_seed, suggestions

AXIS = "growth"
ASK = f"{AXIS}.ask"
THRESHOLD = 1.0  # the ratio above which a network grows, after what its growth is charged


class SelfExpanding:
    """Grows networks from the smallest, as SENN does (Appolinary et al., arXiv 2401.05686).

    A trained network reports, for each of its depths and widths, what the next larger one could
    gain by natural gradient over what it could gain itself (`nas.training.expansion`). The largest
    ratio is followed where it is above 1: that network is proposed, and asked in its turn. Else
    the network has stopped growing, and the next one begins: the smallest of the space with other
    choices drawn for all else. So does one while an answer is awaited.

    The published threshold of 2 is for networks of some thousand weights, which a step nearly
    doubles; of the smallest ResNets of `resnet`, trained on digits, no ratio was above 1.02.

    The larger network is trained from the start, since a trial is what its choices name; published,
    it goes on from the smaller one's weights within one training, and is tested after each epoch.

    Args:
        space: where to search; it has the axis `growth` and decisions on depth or width.
        seed: the study's seed.
        tries: draws until a network that was proposed before is proposed again.

    Raises: NasError where the space has no such axis, or nothing to grow.
    """

    def __init__(self, space: SearchSpace, seed: int, tries: int = 20) -> None:
        names = [decision.name for decision in space.listed]
        if ASK not in names:
            raise NasError(
                f"strategy 'senn' follows what grown networks would gain, and space {space.name!r} "
                "does not ask that",
                f"type --space {space.name}+growth, or another --strategy",
            )
        if not any(f".{name}".endswith(SIZES) for name in names):
            raise NasError(
                f"space {space.name!r} has no depth and no width to grow",
                "choose another space, or another --strategy",
            )
        self._space = space
        self._seed = seed
        self._tries = tries

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals."""
        done = {
            event.trial: (Architecture.from_json(event.payload["architecture"]), dict(notes))
            for event in history.proposals.values()
            for notes in [event.payload["notes"]]
        }
        answers = _answers(history)
        found: list[Proposal] = []
        for number in range(len(history.proposals), len(history.proposals) + count):
            proposal = self._next(done, answers, number)
            done[number] = proposal.architecture, dict(proposal.notes)
            found.append(proposal)
        return found

    def _next(
        self,
        done: Mapping[int, tuple[Architecture, Mapping[str, Any]]],
        answers: Mapping[int, Mapping[str, float]],
        number: int,
    ) -> Proposal:
        """An answer to follow, else another network to begin with."""
        followed = {notes.get("of") for _, notes in done.values()}
        known = {architecture for architecture, _ in done.values()}
        for trial, ratios in answers.items():
            if trial in followed or trial not in done:
                continue
            larger = self._larger(done[trial][0])
            worth = {n: r for n, r in ratios.items() if n in larger and r > THRESHOLD}
            for name in sorted(worth, key=lambda n: (-worth[n], n)):
                if larger[name] not in known:
                    notes = {"senn": "expanded", "of": trial, "by": name, "ratio": worth[name]}
                    return Proposal(larger[name], notes)
        rng = np.random.default_rng(proposal_seed(self._seed, number))
        return Proposal(self._smallest(known, rng), {"senn": "begun"})

    def _larger(self, architecture: Architecture) -> dict[str, Architecture]:
        """What an architecture may become, by the decision that grows."""
        if self._space.check(architecture.choices):  # a network of the user's own
            return {}
        grown = expansions(self._space, architecture.choices)
        return {name: self._space.architecture(choices) for name, choices in grown.items()}

    def _smallest(self, known: set[Architecture], rng: np.random.Generator) -> Architecture:
        """A network of the least depth and width, that is asked, with all else drawn."""
        for _ in range(self._tries):
            drawn: dict[str, Value] = dict(self._space.sample(rng).choices)
            for decision in self._space.listed:
                if f".{decision.name}".endswith(SIZES) and decision.name in drawn:
                    values = getattr(decision, "values", (drawn[decision.name],))
                    drawn[decision.name] = min(values)
            found = self._space.architecture({**self._space.repair(drawn).choices, ASK: True})
            if found not in known:
                return found
        return found


def _answers(history: History) -> dict[int, dict[str, float]]:
    """What trained networks said: trial -> ratios by the decision that would grow."""
    said = suggestions(history, AXIS)
    return {trial: {k: float(v) for k, v in ratios.items()} for trial, ratios in said.items()}
