"""A strategy by its name."""

from __future__ import annotations

from collections.abc import Sequence

from nas.core.errors import unknown
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.strategies.edo import Edo
from nas.strategies.evolution import Evolution
from nas.strategies.known import Costs
from nas.strategies.local import LocalSearch
from nas.strategies.optuna import SHORT, OptunaStrategy, samplers
from nas.strategies.predictor import PredictorSearch
from nas.strategies.protocol import Strategy
from nas.strategies.senn import SelfExpanding
from nas.strategies.surrogate import Surrogate
from nas.strategies.work import Counts

_PREFIX = "optuna:"
_ALSO = {"linas": "predictor"}  # other names


def names() -> list[str]:
    """Every name that `create` knows; Optuna's samplers by their own names too."""
    return [
        "surrogate",
        "evolution",
        "local",
        "predictor",
        "edo",
        "senn",
        *SHORT,
        *(_PREFIX + n for n in samplers()),
    ]


def create(
    name: str,
    space: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
    seed: int = 0,
    costs: Costs | None = None,
    counts: Counts | None = None,
) -> Strategy:
    """The strategy of this name, before any history.

    Args:
        name: `surrogate`, `evolution`, `local`, `predictor` or `linas`, `edo`, `senn`, `random`,
            `nsga2`, `nsga3`, `tpe`, `gp`, `qmc`, or `optuna:` and any sampler's name.
        space: where to search, at the task (`SearchSpace.at`).
        objectives: what the `values` of results are named by; of those that need training the
            first is what trainings report on their way.
        constraints: what their `violations` are named by, as text.
        seed: the study's seed.
        costs: what is known of any architecture before training; only `surrogate` asks.
        counts: counts the work of a few architectures, in a real search; only `surrogate` asks.

    Raises:
        NasError: for an unknown name, with the nearest ones.

    >>> from nas.core.decision import Choice
    >>> from nas.core.trial import History
    >>> space = SearchSpace("toy", [Choice("kernel", [3, 7])], build=lambda choices, task: None)
    >>> [proposal] = create("evolution", space, objectives=[]).propose(History(), 1)
    >>> proposal.architecture.choices["kernel"] in (3, 7)
    True
    """
    name = _ALSO.get(name, name)
    if name == "surrogate":
        return Surrogate(space, objectives, constraints, seed, costs, counts)
    if name == "evolution":
        return Evolution(space, objectives, seed)
    if name == "local":
        return LocalSearch(space, objectives, constraints, seed)
    if name == "predictor":
        return PredictorSearch(space, objectives, constraints, seed)
    if name == "edo":
        return Edo(space, seed)
    if name == "senn":
        return SelfExpanding(space, seed)
    if name in SHORT or name.startswith(_PREFIX):
        return OptunaStrategy(name.removeprefix(_PREFIX), space, objectives, constraints, seed)
    raise unknown("strategy", name, names())
