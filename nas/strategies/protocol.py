"""The one method that every strategy has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from nas.core.trial import History, Proposal


class Strategy(Protocol):
    """Says what to try next.

    A strategy depends on nothing but the history and its seed: a fresh instance that is given a
    stored history proposes exactly what the instance that lived through it proposes next, and
    asking for two proposals is asking for one twice. It may keep a cache that grows with the
    history. What it must remember beyond the measurements it returns as `Proposal.notes`, JSON;
    they come back in the `proposed` events.

    Of its objectives the first that needs training is the one that trainings report at rungs: as
    `score`, which is the value itself, or what an `error` leaves of 100.

    Where a promotion rule stops trials, a proposal may name one of them to go on with; that is
    recorded as a `resumed` event. A strategy that does so says `resumes = True`.
    """

    def propose(self, history: History, count: int) -> list[Proposal]:
        """The next `count` proposals after `history`, which is left as it is."""
        ...


def resumes(strategy: Strategy) -> bool:
    """Whether a strategy goes on with stopped trials, so that one is no loss."""
    return bool(getattr(strategy, "resumes", False))


def proposal_seed(seed: int, number: int) -> list[int]:
    """The entropy of one proposal: the study's seed and the proposal's number in the study.

    >>> proposal_seed(7, 3)
    [7, 3]
    """
    return [seed & 0xFFFFFFFFFFFFFFFF, number]


def suggestions(history: History, transform: str) -> dict[int, Mapping[str, Any]]:
    """What networks that were trained suggest by a transform's report, by their trials."""
    return {
        event.trial: report["suggests"]
        for event in history.events
        if event.kind == "reported" and not event.payload.get("repeat")
        for report in event.payload.get("trained", {}).get("reports", ())
        if report["transform"] == transform and report.get("suggests")
    }


def first_size(seed: int, number: int, start: int) -> float:
    """The size of one of a study's first proposals, for `SearchSpace.sample_sized`.

    Each `start` of them are spread evenly from the smallest to the middle, shuffled: small
    networks are known soon, and tell nearly as much.

    >>> sorted(first_size(7, number, 4) for number in range(4))
    [0.0625, 0.1875, 0.3125, 0.4375]
    """
    turn, place = divmod(number, start)
    order = np.random.default_rng(proposal_seed(seed, turn)).permutation(start)
    return 0.5 * (float(order[place]) + 0.5) / start
