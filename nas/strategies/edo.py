"""Efficient dilation optimisation: one training that names every layer's dilations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from nas.core.architecture import Architecture, Value
from nas.core.decision import Choice
from nas.core.errors import NasError
from nas.core.refusals import reasons
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.strategies.protocol import first_size, proposal_seed, suggestions

AXIS = "dilation."
KERNEL = AXIS + "kernel"


class Edo:
    """The statistical search of Inception convolution (Liu et al., arXiv 2012.13587).

    For one network after another it proposes: the network with kernels that reach as far as any
    pattern; when that is trained, the network with the patterns that its filters asked for (the
    trial's reports say them), which is trained from the start; then a step from there. While an
    answer is awaited, and where the network is always the same, steps from what is known fill in:
    the method itself needs two trainings. A network that has nothing to dilate fails when it is
    built, before any training; another is asked at once.

    The networks are those of the space that the axis `dilation` is joined to, drawn at random, of
    sizes from the smallest to the middle; a network of the user's is asked once.

    Args:
        space: where to search; it has the axis `dilation`.
        seed: the study's seed.
        tries: draws until a network that was proposed before is proposed again.

    Raises: NasError where the space has no such axis.
    """

    def __init__(self, space: SearchSpace, seed: int, tries: int = 20) -> None:
        if all(decision.name != KERNEL for decision in space.listed):
            raise NasError(
                f"strategy 'edo' chooses dilations, and space {space.name!r} has none",
                f"type --space {space.name}+dilation, or another --strategy",
            )
        self._space = space
        self._seed = seed
        self._tries = tries
        self._others = any(not d.name.startswith(AXIS) for d in space.listed)

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals."""
        done = [_asked(event) for event in history.proposals.values()]
        answers, failed = _answers(history), _failed(history)
        found: list[Proposal] = []
        for number in range(len(history.proposals), len(history.proposals) + count):
            rng = np.random.default_rng(proposal_seed(self._seed, number))
            proposal = self._next(done, answers, failed, number, rng)
            done.append((number, proposal.architecture, proposal.notes))
            found.append(proposal)
        return found

    def _next(
        self,
        done: list[tuple[int, Architecture, Mapping[str, Any]]],
        answers: Mapping[int, Mapping[str, Value]],
        failed: Collection[int],
        number: int,
        rng: np.random.Generator,
    ) -> Proposal:
        """An answer to follow, else another network to ask, else a step."""
        followed = {notes.get("of") for _, _, notes in done}
        for trial, asked, _ in done:
            if trial in answers and trial not in followed:
                kept = {k: v for k, v in asked.choices.items() if not k.startswith(AXIS)}
                chosen = self._space.repair({**kept, **answers[trial]})
                return Proposal(chosen, {"edo": "chosen", "of": trial})
        grown = [trial for trial, _, notes in done if notes.get("edo") == "grown"]
        lost = sum(trial in failed for trial in grown)  # these will not answer
        if not grown or (self._others and len(done) - lost >= 3 * (len(grown) - lost)):
            return Proposal(self._grown(number, rng), {"edo": "grown"})
        return Proposal(self._step(done, rng), {"edo": "step"})

    def _grown(self, number: int, rng: np.random.Generator) -> Architecture:
        """A network to ask: with every tap that a pattern could choose."""
        if self._others:
            drawn = self._space.sample_sized(rng, first_size(self._seed, number, 8))
        else:
            drawn = self._space.repair({})
        kept = {k: v for k, v in drawn.choices.items() if not k.startswith(AXIS)}
        for decision in self._space.listed:  # of what it excludes it is asked without
            name = decision.name
            if name in kept and reasons({KERNEL: "full", name: kept[name]}):
                assert isinstance(decision, Choice)
                kept[name] = decision.values[0]
        return self._space.architecture({**kept, KERNEL: "full"})

    def _step(
        self, done: list[tuple[int, Architecture, Mapping[str, Any]]], rng: np.random.Generator
    ) -> Architecture:
        """A neighbour of the last network that was chosen, of the untouched one before there is."""
        known = {architecture for _, architecture, _ in done}
        chosen = [a for _, a, notes in done if notes.get("edo") == "chosen"]
        start = chosen[-1] if chosen else self._space.repair({})
        for _ in range(self._tries):
            [step] = self._space.neighbours(start, rng)
            if step not in known:
                return step
            start = step
        return step


def _asked(event: Event) -> tuple[int, Architecture, Mapping[str, Any]]:
    payload = event.payload
    return event.trial, Architecture.from_json(payload["architecture"]), payload["notes"]


def _failed(history: History) -> set[int]:
    """The trials that failed."""
    return {n for n, told in history.results.items() if told.payload["state"] == "failed"}


def _answers(history: History) -> dict[int, dict[str, Value]]:
    """What trained networks asked for: trial -> choices, by their names in the joint space."""
    said = suggestions(history, AXIS.rstrip("."))
    return {trial: {AXIS + k: v for k, v in asked.items()} for trial, asked in said.items()}
