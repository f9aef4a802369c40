"""Other packages' multi-objective strategies as `nas` strategies, for `benchmarks/search.py` alone.

Syne Tune's MO-REA, EHVI (on BoTorch) and MO-ASHA, pymoo's NSGA-II: their own code with their own
defaults (`pip install -e '.[rivals]'`). They live through one history and cannot be rebuilt from
it, so they are no strategies of the project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Integer
from nas.core.objective import Objective
from nas.core.pareto import non_dominated
from nas.core.space import SearchSpace
from nas.core.trial import Event, History, Proposal
from nas.runners.replay import Oracle, Replay
from nas.runners.table import Table
from nas.strategies.improvement import boxes, expected_improvement
from nas.strategies.mirror import decode, recorded
from nas.strategies.protocol import Strategy, proposal_seed

Raw = dict[str, Any]
MANY = 2**31 - 1


class Searcher(Protocol):
    """What the packages are to `Rival`: raw parameters out, minimised objectives in."""

    def ask(self) -> Raw:
        """The next parameters."""
        ...

    def tell(self, raw: Raw, point: Sequence[float]) -> None:
        """A result of them."""
        ...


class Rival:
    """A searcher of another package as a strategy; what it is not told of stays pending.

    Where a table has no row for what it asked, it is told the nearest one's result, as of that row.
    """

    def __init__(
        self, searcher: Searcher, space: SearchSpace, objectives: Sequence[Objective]
    ) -> None:
        self._searcher = searcher
        self._space = space
        self._objectives = objectives
        self._raw: dict[int, Raw] = {}
        self._read = 0

    def propose(self, history: History, count: int) -> list[Proposal]:
        """One proposal after another; all results so far are told before."""
        for event in history.events[self._read :]:
            if event.kind == "proposed" and event.trial in self._raw:
                there = Architecture.from_json(event.payload["architecture"])
                self._raw[event.trial] = recorded(self._space, self._raw[event.trial], there)
            elif event.kind == "told" and event.trial in self._raw:
                raw, values = self._raw.pop(event.trial), event.payload["values"]
                if event.payload["state"] != "failed":
                    self._searcher.tell(raw, [o.sign * values[o.name] for o in self._objectives])
        self._read = len(history.events)
        proposals = []
        for number in range(len(history.proposals), len(history.proposals) + count):
            self._raw[number] = self._searcher.ask()
            proposals.append(Proposal(decode(self._space, self._raw[number])))
        return proposals


class SyneTune:
    """A searcher of Syne Tune over the indices of choices.

    EHVI rounds a continuous optimum to choices, and asks for the same ones again without end; so
    that it is not out after a few evaluations, a repeat is replaced by its own random draw.
    """

    def __init__(self, name: str, space: SearchSpace, seed: int) -> None:
        from syne_tune.config_space import choice, randint, uniform
        from syne_tune.optimizer.schedulers.multiobjective import (
            expected_hyper_volume_improvement as ehvi,
        )
        from syne_tune.optimizer.schedulers.multiobjective import (
            multi_objective_regularized_evolution as morea,
        )

        kinds = {
            "syne-morea": morea.MultiObjectiveRegularizedEvolution,
            "syne-ehvi": ehvi.ExpectedHyperVolumeImprovement,
        }
        domains = {}
        for d in space.listed:
            if isinstance(d, Choice):
                domains[d.name] = choice([str(i) for i in range(len(d.values))])
            elif isinstance(d, Integer):
                domains[d.name] = randint(d.low, d.high)
            else:
                domains[d.name] = uniform(d.low, d.high)
        np.random.seed(seed)  # its random configurations come from the global generator
        self._searcher = kinds[name](domains, random_seed=seed)
        self._space = space
        self._told = 0
        self._seen: set[str] = set()

    def ask(self) -> Raw:
        """The next parameters."""
        found = self._searcher.suggest()
        named = {d.name: isinstance(d, Choice) for d in self._space.listed}
        if str(found) in self._seen and hasattr(self._searcher, "trial_configs"):
            found = self._searcher._get_random_config()
            self._searcher.trial_configs[self._searcher.num_suggestions() - 1] = found
        self._seen.add(str(found))
        return {n: int(v) if named[n] else v for n, v in found.items()}

    def tell(self, raw: Raw, point: Sequence[float]) -> None:
        """One result, in the order of asking."""
        named = {d.name: isinstance(d, Choice) for d in self._space.listed}
        given = {n: str(v) if named[n] else v for n, v in raw.items()}
        if hasattr(self._searcher, "trial_configs"):  # it learns from what it asked for
            self._searcher.trial_configs[self._told] = given
        self._searcher.on_trial_complete(self._told, given, list(point))
        self._told += 1


class Pymoo:
    """pymoo's NSGA-II with its operators for mixed variables: a generation is told at once."""

    def __init__(self, space: SearchSpace, objectives: int, seed: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.mixed import (
            MixedVariableDuplicateElimination,
            MixedVariableMating,
            MixedVariableSampling,
        )
        from pymoo.core.problem import Problem
        from pymoo.core.variable import Choice as Named
        from pymoo.core.variable import Integer as Whole
        from pymoo.core.variable import Real as Continuous

        variables = {}
        for d in space.listed:
            if isinstance(d, Choice):
                variables[d.name] = Named(options=list(range(len(d.values))))
            elif isinstance(d, Integer):
                variables[d.name] = Whole(bounds=(d.low, d.high))
            else:
                variables[d.name] = Continuous(bounds=(d.low, d.high))
        apart = MixedVariableDuplicateElimination()
        self._algorithm = NSGA2(
            sampling=MixedVariableSampling(),
            mating=MixedVariableMating(eliminate_duplicates=apart),
            eliminate_duplicates=apart,
        )
        problem = Problem(vars=variables, n_obj=objectives)
        self._algorithm.setup(problem, termination=("n_gen", MANY), seed=seed, verbose=False)
        self._asked: Iterator[Any] = iter(())
        self._told = 0
        self._infills: Any = None

    def ask(self) -> Raw:
        """The next of a generation."""
        following = next(self._asked, None)
        if following is None:
            if self._infills is not None:
                self._algorithm.tell(infills=self._infills)
            self._infills = self._algorithm.ask()
            self._told = 0
            self._asked = iter(self._infills)
            following = next(self._asked)
        return dict(following.X)

    def tell(self, raw: Raw, point: Sequence[float]) -> None:
        """One result, in the order of asking."""
        self._infills[self._told].set("X", raw)
        self._infills[self._told].set("F", np.array(point, dtype=np.float64))
        self._infills[self._told].evaluated.add("F")
        self._told += 1


class Moasha(Replay):
    """A replay whose promotion is Syne Tune's MO-ASHA, on its own random proposals."""

    def __init__(self, table: Table, strategy: Strategy, seed: int) -> None:
        from syne_tune.optimizer.schedulers.asha import Bracket
        from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import (
            NonDominatedPriority,
        )

        super().__init__(table, strategy, seed)
        first, full = table.levels[0].epochs, table.levels[-1].epochs
        self._bracket = Bracket(first, full, 3, 0, NonDominatedPriority())
        self._levels = [level.epochs for level in table.levels]

    def _promoted(self, number: int, rung: int, value: float, row: int) -> bool:
        objectives = self._table.objectives
        values = self._known(self._sight.values(row) | {objectives[0].name: value})
        point = {o.name: o.sign * values[o.name] for o in objectives if o.name in values}
        action = self._bracket.on_result(number, self._levels[rung], point)
        return bool(action == "CONTINUE")


class Screened:
    """A peer that is given the costs: it trains the most promising of some proposals.

    Candidates are drawn by the peer's own rule. Each is worth the hypervolume that it would add
    with its known costs and with the mean error of the tried architectures nearest to it (the
    fewest decisions differ), up to the worst values tried: the usual preselection of offspring by
    a nearest-neighbour surrogate (Jin 2011). The others are told to the peer as failed, which it
    leaves out. Where a table has no row for what is proposed, the peer gets to know which one it
    was given: what was drawn goes into its history after that, so proposals are made singly.
    """

    def __init__(self, peer: Strategy, table: Table, costs: Oracle, candidates: int) -> None:
        self._peer = peer
        self._table = table
        self._objectives = table.objectives
        self._costs = costs
        self._candidates = candidates
        self._inner = History()
        self._drawn: list[Proposal] = []
        self._best = 0
        self._place: dict[int, tuple[int, Architecture]] = {}
        self._points: list[list[float]] = []
        self._codes: list[Any] = []
        self._tried: set[Architecture] = set()
        self._read = 0

    def propose(self, history: History, count: int) -> list[Proposal]:
        """One proposal, the best of some."""
        assert count == 1, "a replay asks for one at a time"
        for event in history.events[self._read :]:
            if event.kind == "proposed":
                self._proposed(event)
            elif event.kind == "told" and event.trial in self._place:
                inner, architecture = self._place.pop(event.trial)
                self._inner.append(Event("told", inner, event.payload))
                values = event.payload["values"]
                self._points.append([o.sign * values[o.name] for o in self._objectives])
                self._codes.append(self._table.code(architecture))
        self._read = len(history.events)
        self._drawn = self._peer.propose(self._inner, self._candidates)
        worth = self._worth([p.architecture for p in self._drawn])
        self._best = max(
            range(len(self._drawn)),
            key=lambda i: (self._drawn[i].architecture not in self._tried, worth[i]),
        )
        best = self._drawn[self._best].architecture
        self._tried.add(best)
        return [Proposal(best)]

    def _proposed(self, event: Event) -> None:
        """Tells the peer's history of all that was drawn; the best as what was recorded of it."""
        first = len(self._inner.proposals)
        there = Architecture.from_json(event.payload["architecture"])
        self._tried.add(there)
        self._place[event.trial] = first + self._best, there
        for i, proposal in enumerate(self._drawn):
            architecture = there if i == self._best else proposal.architecture
            payload = {"architecture": architecture.to_json(), "origin": "strategy",
                       "notes": dict(proposal.notes)}  # fmt: skip
            self._inner.append(Event("proposed", first + i, payload))
        failed = {"state": "failed", "values": {}, "violations": {}, "error": "left out"}
        for i in range(len(self._drawn)):
            if i != self._best:
                self._inner.append(Event("told", first + i, failed))

    def _worth(self, architectures: Sequence[Architecture]) -> list[float]:
        """Hypervolume that each would add if it were as accurate as what is nearest to it."""
        if len(self._points) < 10:
            return [0.0] * len(architectures)
        points = np.array(self._points)
        guesses = np.empty((len(architectures), points.shape[1]))
        for row, architecture in enumerate(architectures):
            apart = (np.array(self._codes) != self._table.code(architecture)).sum(axis=1)
            known = self._costs(architecture)
            guesses[row] = points[apart == apart.min()].mean(axis=0)
            for i, o in enumerate(self._objectives):
                if o.name in known:
                    guesses[row, i] = o.sign * known[o.name]
        front = points[non_dominated(points)]
        low, high = boxes(front, points.max(axis=0))
        return [float(w) for w in expected_improvement(guesses, np.zeros_like(guesses), low, high)]


def make(name: str, table: Table, seed: int) -> Strategy:
    """A rival by its name, before any history."""
    entropy = int(np.random.SeedSequence(proposal_seed(seed, 0)).generate_state(1)[0]) % MANY
    searcher: Searcher
    if name == "pymoo-nsga2":
        searcher = Pymoo(table.space, len(table.objectives), entropy)
    else:
        searcher = SyneTune(name, table.space, entropy)
    return Rival(searcher, table.space, table.objectives)


def versions() -> Mapping[str, str]:
    """Installed versions of the packages compared with."""
    from importlib.metadata import version

    return {n: version(n) for n in ("optuna", "syne-tune", "botorch", "pymoo")}
