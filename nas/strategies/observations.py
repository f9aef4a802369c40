"""What a history says of each quantity, as arrays in the order in which trials were told."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
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


@dataclass(frozen=True)
class _Result:
    """How a trial ended: what was found, and whether a rung ended it."""

    values: Mapping[str, float]
    violations: Mapping[str, float]
    stopped: bool


class Observations:
    """Follows a history; knows every proposal's code and every result.

    A trial that was stopped at a rung says what its full training would have brought, as far as
    trials that went on tell: from each rung to the next by a line through those that have both,
    with what the line leaves unexplained as doubt.

    Results of other studies (`known` events) teach as much, under numbers below zero; but their
    networks are not on this study's front, and may be proposed still.

    A stopped trial that was resumed is told twice. What the first results say of anything is what
    they said when there were no more of them, so a search that is read again believes the same.

    Attributes:
        codes: of each trial.
        told: trials in the order of their results; those of a resumed trial are two.
        seen: the codes that were proposed, as bytes.
        under_way: resumed trials whose second result is not known yet.
        judged: epochs after which the first of this study's trials was stopped; None before.
        costs: what was counted of the networks that were built, by the bytes of their codes.
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
        self.under_way: list[int] = []
        self.judged: float | None = None
        self.costs: dict[bytes, Mapping[str, float]] = {}
        self._results: list[_Result] = []
        self._latest: dict[int, int] = {}
        self._resumed: set[int] = set()
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
                self._happened(event)
            self._read += 1
            self._last = event
        return True

    @property
    def pending(self) -> list[int]:
        """Trials whose result is not known yet."""
        return [t for t in self.codes if t not in self._closed]

    @property
    def trials(self) -> list[int]:
        """The told trials, each once, in the order of their first results."""
        return list(self._latest)

    @property
    def mine(self) -> npt.NDArray[np.bool_]:
        """Which of `trials` are this study's own. `(N,)`"""
        return np.array(self.trials, dtype=np.int64) >= 0

    @property
    def stopped(self) -> list[int]:
        """This study's trials that were stopped at a rung, and are not under way again."""
        return [
            t
            for t, i in self._latest.items()
            if t >= 0 and self._results[i].stopped and t not in self.under_way
        ]

    @property
    def resumable(self) -> list[int]:
        """Those of the stopped trials that never were resumed, and can be judged."""
        return [
            t
            for t in self.stopped
            if t not in self._resumed and self.judged in self._rungs.get(t, {})
        ]

    def left(self, trials: Sequence[int]) -> Array:
        """The share of a full training that is left of each, as far as one was seen. `(N,)`"""
        full = max(max(rungs) for rungs in self._rungs.values())
        return np.array([1.0 - max(self._rungs[t]) / full for t in trials])

    def code(self, trials: Sequence[int] | npt.NDArray[np.int64]) -> Array:
        """The codes of some trials, `(N, decisions)`."""
        found = [self.codes[int(t)] for t in trials]
        return np.array(found).reshape(len(found), len(self._genes.decisions))

    def violation(self, trial: int) -> float:
        """By how much a trial breaks constraints, summed."""
        if trial not in self._latest:
            return 0.0
        return sum(v for v in self._results[self._latest[trial]].violations.values() if v > 0)

    def excess(self, limits: Collection[str]) -> dict[int, float]:
        """The most by which each told trial breaks one of some constraints, where that is known."""
        found = {}
        for trial, place in self._latest.items():
            violations = self._results[place].violations
            known = [violations[limit] for limit in limits if limit in violations]
            if known:
                found[trial] = max(known)
        return found

    def objective(self, place: int, first: int, guessed: bool = True) -> Data:
        """What the first so many results say of an objective at full training.

        Args:
            place: which objective.
            first: how many results.
            guessed: whether a stopped trial counts, as what its last rung lets guess.
        """
        name = self._objectives[place].name
        told = self._heard(first)
        if place != self.score or not guessed:
            rows = [(t, r.values[name], 0.0) for t, r in told.items() if name in r.values]
        else:
            chain = self._chain(list(told))
            rows = [
                (t, *guess) for t, r in told.items() if (guess := self._full(t, name, r, chain))
            ]
        return _data(rows, self._objectives[place].sign)

    def rung(self, first: int) -> Data:
        """The score's value after `judged` epochs, of those of the first so many who got there."""
        at = self.judged or 0.0
        found = [
            (t, rungs[at]) for t in self._heard(first) if at in (rungs := self._rungs.get(t, {}))
        ]
        return _data([(t, v, 0.0) for t, v in found], self._objectives[self.score or 0].sign)

    def constraint(self, text: str, first: int) -> Data:
        """What the first so many results say of a constraint: by how much it is broken."""
        rows = [
            (t, r.violations[text], 0.0)
            for t, r in self._heard(first).items()
            if text in r.violations
        ]
        return _data(rows, 1.0)

    def counted(self, name: str, first: int) -> Data:
        """What was counted under a name of those that the first so many results are of."""
        found = [
            (t, float(costs[name]), 0.0)
            for t in self._heard(first)
            if name in (costs := self.costs.get(self.codes[t].tobytes(), {}))
        ]
        return _data(found, 1.0)

    def points(self, first: int, feasible: bool = True) -> tuple[npt.NDArray[np.int64], Array]:
        """Those of the trials of the first so many results whose objectives are known or guessed.

        Args:
            first: how many results.
            feasible: only those that break no constraint, unless none does.

        Returns:
            The trials `(N,)` and their objectives, minimised, `(N, M)`.
        """
        columns = [
            {int(t): float(v) for t, v in zip(data.trials, data.values, strict=True)}
            for data in (self.objective(i, first) for i in range(len(self._objectives)))
        ]
        told = [t for t in dict.fromkeys(self.told[:first]) if all(t in c for c in columns)]
        if feasible:
            told = [t for t in told if self.violation(t) <= 0] or told
        rows = np.array([[c[t] for c in columns] for t in told], dtype=np.float64)
        return np.array(told, dtype=np.int64), rows.reshape(len(told), len(columns))

    def _heard(self, first: int) -> dict[int, _Result]:
        """The trials of the first so many results, with the latest of these results.

        Less those of other studies that this one has repeated: a result that was taken over twice
        would say that there is no noise.
        """
        told = dict(zip(self.told[:first], self._results[:first], strict=True))
        if all(t >= 0 for t in told):
            return told
        mine = {self.codes[t].tobytes() for t in told if t >= 0}
        return {t: r for t, r in told.items() if t >= 0 or self.codes[t].tobytes() not in mine}

    def _happened(self, event: Event) -> None:
        if event.kind == "reported":
            self._reported(event)
        elif event.kind == "resumed":
            self._resumed.add(event.trial)
            self.under_way.append(event.trial)
        else:
            self._told(event)

    def _proposed(self, event: Event) -> None:
        if self._coded(event):
            self.seen.add(self.codes[event.trial].tobytes())
        asked = event.payload.get("asked")  # in the place of which another was given
        if asked is not None:
            self.seen.add(self._genes.code(Architecture.from_json(asked)).tobytes())

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
        self._built(event)
        if self.score is not None and event.payload["rungs"]:
            turned = self._objectives[self.score].name == "error"
            self._rungs[event.trial] = {
                float(epochs): 100.0 - score if turned else score
                for epochs, score in event.payload["rungs"]
            }
        self._told(event)

    def _reported(self, event: Event) -> None:
        payload = event.payload
        if payload.get("job") == "build":
            return self._built(event)
        if payload.get("job") != "train" or payload.get("repeat") or "values" not in payload:
            return
        if self.score is None:
            return
        score = float(payload["values"]["score"])
        if self._objectives[self.score].name == "error":
            score = 100.0 - score
        self._rungs.setdefault(event.trial, {})[float(payload["values"]["epochs"])] = score

    def _built(self, event: Event) -> None:
        """Keeps what was counted of a network; other studies' may lack it."""
        if event.payload.get("costs"):
            self.costs[self.codes[event.trial].tobytes()] = event.payload["costs"]

    def _told(self, event: Event) -> None:
        """Takes a result in; a copy of another trial's says nothing new, nor does one unasked."""
        if event.trial in self._closed and event.trial not in self.under_way:
            return
        self._closed.add(event.trial)
        self.under_way = [t for t in self.under_way if t != event.trial]
        if event.payload["state"] == "failed" or event.payload.get("reused"):
            return
        given = event.payload.get("values", {})
        values = {n: float(v) for n, v in given.items() if math.isfinite(v)}
        stopped = event.payload["state"] == "stopped" and event.trial in self._rungs
        if stopped:
            values.pop(self._objectives[self.score or 0].name, None)
            if self.judged is None and event.trial >= 0:
                self.judged = max(self._rungs[event.trial])
        violations = dict(event.payload.get("violations", {}))
        self._latest[event.trial] = len(self.told)
        self._results.append(_Result(values, violations, stopped))
        self.told.append(event.trial)

    def _full(
        self, trial: int, name: str, result: _Result,
        chain: Mapping[float, tuple[float, float, float]],
    ) -> tuple[float, float] | None:  # fmt: skip
        """A trial's value at full training and the doubt of it; a guess from its last rung."""
        if name in result.values:
            return result.values[name], 0.0
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
    """The objective that trainings report at rungs, as `Strategy` says."""
    return next((i for i, o in enumerate(objectives) if o.needs == "trained"), None)


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
