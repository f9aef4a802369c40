"""Who goes on at each rung of a search, by all that reached it before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from nas.core.job import Decision
from nas.core.known import scored, values_of
from nas.core.promotion import RULES, Reached, Standing, bracket, judged, leading
from nas.core.study import StudySpec
from nas.core.trial import Trial


class Rungs:
    """Remembers who stood where at each rung; decides by the study's promotion rule.

    Args:
        spec: the experiment.
        resuming: whether the strategy may send a stopped trial on later.
        resumed: the trials that it sent on: they are not stopped again. Read at each decision.
    """

    def __init__(self, spec: StudySpec, resuming: bool, resumed: Collection[int]) -> None:
        self.spec = spec
        self._late = spec.promotion == "halving" and resuming
        self._resumed = resumed
        self._reached: defaultdict[tuple[int, int], Reached] = defaultdict(Reached)

    def decide(self, trial: Trial, repeat: int, rung: int, values: Mapping[str, Any]) -> Decision:
        """Whether a training that reached a rung with these values, its `score`, goes on."""
        rungs, reduction = self.spec.fidelity.rungs, self.spec.fidelity.reduction
        if repeat or rung >= len(rungs) - 1 or self.spec.promotion == "none":
            return "continue"
        if trial.number == 0 and self.spec.presets:  # what every table compares with
            return "continue"
        if trial.number in self._resumed:
            return "continue"
        if self._late and rung != judged(rungs, reduction):
            return "continue"
        mine = self._bracket(trial.number)
        if rung < mine:
            return "continue"
        reached = self._reached[mine, rung]
        standing = self._standing(trial, values)
        if reached.beaten(trial.number, standing):
            return "continue"
        rule = leading if self._late else RULES[self.spec.promotion]
        return "continue" if rule(reached.earlier(trial.number), standing, reduction) else "stop"

    def take(self, trial: Trial, payload: Mapping[str, Any]) -> None:
        """Remembers the standing of a trial whose report says that it reached a rung."""
        if "decision" not in payload or payload["repeat"] or self.spec.promotion == "none":
            return
        standing = self._standing(trial, payload["values"])
        self._reached[self._bracket(trial.number), payload["rung"]].add(trial.number, standing)

    def _bracket(self, number: int) -> int:
        """The bracket of a trial under Hyperband; of any other rule there is one."""
        if self.spec.promotion != "hyperband":
            return 0
        return bracket(number, len(self.spec.fidelity.rungs), self.spec.fidelity.reduction)

    def _standing(self, trial: Trial, values: Mapping[str, Any]) -> Standing:
        """A trial as it stood when it had this score."""
        found = values_of(self.spec, trial) | scored(self.spec, float(values["score"]))
        known = [o for o in self.spec.objectives if o.name in found]
        return Standing(tuple(o.sign * found[o.name] for o in known))
