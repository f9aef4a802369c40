"""What a history says of each quantity, as arrays in the order in which trials were told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture
from nas.core.objective import Constraint, Objective
from nas.core.trial import Event, History
from nas.strategies.candidates import Genes

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Values of one quantity, minimised: of which trials, and what is doubtful in each.

    `doubt` is the variance that a value has beyond the noise all of them share: that of a guess
    of the full training from a shorter one.
    """

    trials: npt.NDArray[np.int64]
    values: Array
    doubt: Array

    def __len__(self) -> int:
        return len(self.values)


class Observations:
    """Follows a history; knows every proposal's code and every result.

    A trial that was stopped at a rung says what its full training would have brought, as far as
    trials that went on tell: from each rung to the next by a line through those that have both,
    with what the line leaves unexplained as doubt.

    Results of other studies (`known` events) teach as much, under numbers below zero; but their
    networks are not on this study's front, and may be proposed still.
    """

    def __init__(
        self, genes: Genes, objectives: Sequence[Objective], constraints: Sequence[Constraint]
    ) -> None:
        self._genes = genes
        self._objectives = tuple(objectives)
        self._constraints = tuple(str(c) for c in constraints)
        self.score = _scored(self._objectives)
        self.codes: dict[int, Array] = {}
        self.told: list[int] = []
        self.seen: set[bytes] = set()
        self._values: dict[int, dict[str, float]] = {}
        self._violations: dict[int, Mapping[str, float]] = {}
        self._rungs: dict[int, dict[float, float]] = {}
        self._closed: set[int] = set()
        self._read = 0
        self._last: Event | None = None

    def follow(self, history: History) -> bool:
        """Reads what is new; False where the past is not what was read before."""
        if self._last is not None and (
            self._read > len(history) or history.events[self._read - 1] != self._last
        ):
            return False
        for event in history.events[self._read :]:
            if event.kind == "proposed":
                self._proposed(event)
            elif event.kind == "known":
                self._known(event)
            elif event.trial in self.codes:
                self._reported(event) if event.kind == "reported" else self._told(event)
            self._read += 1
            self._last = event
        return True

    @property
    def pending(self) -> list[int]:
        """Trials whose result is not known yet."""
        return [t for t in self.codes if t not in self._closed]

    @property
    def mine(self) -> npt.NDArray[np.bool_]:
        """Which of the told trials are this study's own. `(N,)`"""
        return np.array(self.told, dtype=np.int64) >= 0

    def code(self, trials: Sequence[int] | npt.NDArray[np.int64]) -> Array:
        """The codes of some trials, `(N, decisions)`."""
        found = [self.codes[int(t)] for t in trials]
        return np.array(found).reshape(len(found), len(self._genes.decisions))

    def violation(self, trial: int) -> float:
        """By how much a trial breaks constraints, summed."""
        return sum(v for v in self._violations.get(trial, {}).values() if v > 0)

    def objective(self, place: int, first: int) -> Data:
        """What the first so many told trials say of an objective at full training."""
        name = self._objectives[place].name
        told = self._heard(first)
        if place != self.score:
            rows = [(t, self._values[t][name], 0.0) for t in told if name in self._values[t]]
        else:
            chain = self._chain(told)
            rows = [(t, *guess) for t in told if (guess := self._full(t, name, chain))]
        return _data(rows, self._objectives[place].sign)

    def constraint(self, text: str, first: int) -> Data:
        """What the first so many told trials say of a constraint: by how much it is broken."""
        rows = [
            (t, self._violations[t][text], 0.0)
            for t in self._heard(first)
            if text in self._violations[t]
        ]
        return _data(rows, 1.0)

    def points(self, first: int, feasible: bool = True) -> tuple[npt.NDArray[np.int64], Array]:
        """Those of the first so many told trials whose every objective is known or guessed.

        Args:
            first: how many told trials.
            feasible: only those that break no constraint, unless none does.

        Returns:
            The trials `(N,)` and their objectives, minimised, `(N, M)`.
        """
        columns = [
            {int(t): float(v) for t, v in zip(data.trials, data.values, strict=True)}
            for data in (self.objective(i, first) for i in range(len(self._objectives)))
        ]
        told = [t for t in self.told[:first] if all(t in c for c in columns)]
        if feasible:
            told = [t for t in told if self.violation(t) <= 0] or told
        rows = np.array([[c[t] for c in columns] for t in told], dtype=np.float64)
        return np.array(told, dtype=np.int64), rows.reshape(len(told), len(columns))

    def _heard(self, first: int) -> list[int]:
        """The first so many told trials, less those of other studies that this one has repeated.

        A result that was taken over twice would say that there is no noise.
        """
        told = self.told[:first]
        if all(t >= 0 for t in told):
            return told
        mine = {self.codes[t].tobytes() for t in told if t >= 0}
        return [t for t in told if t >= 0 or self.codes[t].tobytes() not in mine]

    def _proposed(self, event: Event) -> None:
        if self._coded(event):
            self.seen.add(self.codes[event.trial].tobytes())

    def _coded(self, event: Event) -> bool:
        """Keeps the code of an event's architecture; False where the space cannot have it."""
        architecture = Architecture.from_json(event.payload["architecture"])
        known = {d.name for d in self._genes.decisions} >= set(architecture.choices)
        if known:
            self.codes[event.trial] = self._genes.code(architecture)
        return known

    def _known(self, event: Event) -> None:
        if not self._coded(event):
            return
        if self.score is not None and event.payload["rungs"]:
            turned = self._objectives[self.score].name == "error"
            self._rungs[event.trial] = {
                float(epochs): 100.0 - score if turned else score
                for epochs, score in event.payload["rungs"]
            }
        self._told(event)

    def _reported(self, event: Event) -> None:
        payload = event.payload
        if payload.get("job") != "train" or payload.get("repeat") or "values" not in payload:
            return
        if self.score is None:
            return
        score = float(payload["values"]["score"])
        if self._objectives[self.score].name == "error":
            score = 100.0 - score
        self._rungs.setdefault(event.trial, {})[float(payload["values"]["epochs"])] = score

    def _told(self, event: Event) -> None:
        """The first result of a trial stays; a copy of another trial's says nothing new."""
        if event.trial in self._closed:
            return
        self._closed.add(event.trial)
        if event.payload["state"] == "failed" or event.payload.get("reused"):
            return
        given = event.payload.get("values", {})
        values = {n: float(v) for n, v in given.items() if math.isfinite(v)}
        if event.payload["state"] == "stopped" and event.trial in self._rungs:
            values.pop(self._objectives[self.score or 0].name, None)
        self._values[event.trial] = values
        self._violations[event.trial] = dict(event.payload.get("violations", {}))
        self.told.append(event.trial)

    def _full(
        self, trial: int, name: str, chain: Mapping[float, tuple[float, float, float]]
    ) -> tuple[float, float] | None:
        """A trial's value at full training and the doubt of it; a guess from its last rung."""
        if name in self._values[trial]:
            return self._values[trial][name], 0.0
        rungs = self._rungs.get(trial)
        if not rungs:
            return None
        epochs = max(rungs)
        offset, slope, doubt = chain[epochs]
        return offset + slope * rungs[epochs], doubt

    def _chain(self, told: Sequence[int]) -> dict[float, tuple[float, float, float]]:
        """For each rung's epochs, the line from its score to the full one, and its doubt."""
        levels = sorted({e for t in told for e in self._rungs.get(t, {})})
        chain: dict[float, tuple[float, float, float]] = {}
        following: tuple[float, float, float] = (0.0, 1.0, 0.0)
        for at in range(len(levels) - 1, -1, -1):
            if at < len(levels) - 1:
                both = [
                    (self._rungs[t][levels[at]], self._rungs[t][levels[at + 1]])
                    for t in told
                    if {levels[at], levels[at + 1]} <= set(self._rungs.get(t, {}))
                ]
                offset, slope, doubt = _line(np.array(both).reshape(-1, 2))
                far, steep, more = following
                following = (far + steep * offset, steep * slope, more + steep**2 * doubt)
            chain[levels[at]] = following
        return chain


def _scored(objectives: Sequence[Objective]) -> int | None:
    """The objective that trainings report at rungs: the score, or the error it leaves."""
    trained = [i for i, o in enumerate(objectives) if o.needs == "trained"]
    named = [i for i in trained if objectives[i].name in ("error", "accuracy")]
    return next(iter(named or trained), None)


def _line(pairs: Array) -> tuple[float, float, float]:
    """Offset, slope and residual variance of a line through `(from, to)` pairs.

    With fewer than four pairs it is the mean difference, and as doubtful as the values are wide.
    """
    if len(pairs) < 4 or np.ptp(pairs[:, 0]) == 0:
        offset = float((pairs[:, 1] - pairs[:, 0]).mean()) if len(pairs) else 0.0
        return offset, 1.0, float(pairs[:, 1].var()) if len(pairs) > 1 else 1.0
    slope, offset = np.polyfit(pairs[:, 0], pairs[:, 1], 1)
    slope = max(float(slope), 0.0)
    offset = float(pairs[:, 1].mean() - slope * pairs[:, 0].mean())
    return offset, slope, float((pairs[:, 1] - offset - slope * pairs[:, 0]).var())


def _data(rows: Sequence[tuple[int, float, float]], sign: float) -> Data:
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Data(table[:, 0].astype(np.int64), sign * table[:, 1], table[:, 2])
