"""Which decisions decide whether a network reaches the front."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from nas.core.front import front_of
from nas.core.objective import Objective
from nas.core.pareto import non_dominated
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.strategies.mirror import distribution, encode, quiet

FEWEST = 8  # networks; of fewer nothing can be said
TOP = 0.1  # least share of the networks that count as having reached the front


@dataclass(frozen=True)
class Importance:
    """A decision's share in what tells the front from the rest; all shares add up to 1.

    `active` is how many networks have the decision at all.
    """

    decision: str
    share: float
    active: int


def importance(space: SearchSpace, spec: StudySpec, trials: Sequence[Trial]) -> list[Importance]:
    """The share of each decision in reaching the front, the greatest first; empty if none is known.

    PED-ANOVA (Watanabe et al. 2023) by Optuna: of each decision, how much the values of the
    networks on the front (of the best tenth by non-dominated rank, where the front is smaller)
    differ from those of all networks, as a Pearson divergence. A conditional decision is compared
    where it has an effect (conditional PED-ANOVA, 2026). Networks stopped early count with their
    last score; those that break a constraint are behind all others.

    Args:
        space: of the study, at its task.
        spec: names the objectives.
        trials: of the study.
    """
    ranks = _ranks(spec, trials)
    if len(ranks) < FEWEST or len(set(ranks.values())) < 2:
        return []
    known = [t for t in trials if t.number in ranks]
    found = _evaluate(_study(space, known, ranks), TOP, ranks)
    counted = {d.name: sum(d.name in t.architecture.choices for t in known) for d in space.listed}
    total = sum(found.values())
    shares = [
        Importance(name, value / total if total > 0 else 0.0, counted[name])
        for name, value in found.items()
    ]
    return sorted(shares, key=lambda i: (-i.share, i.decision))


def importance_document(
    space: SearchSpace, spec: StudySpec, trials: Sequence[Trial]
) -> dict[str, Any]:
    """`importance` as plain data: `study`, `target`, `networks`, and `rows` of `decision`, `share`
    and `active`.
    """
    rows = importance(space, spec, trials)
    return {
        "study": spec.name,
        "target": "front",
        "front": [m.trial for m in front_of(spec, trials).members],
        "networks": len(_ranks(spec, trials)),
        "rows": [vars(row) for row in rows],
    }


def _ranks(spec: StudySpec, trials: Sequence[Trial]) -> dict[int, int]:
    """The non-dominated rank of each network that has all objectives, 0 for the front.

    Networks that break a constraint come after all that keep them, by how much they break.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        if trial.state in ("complete", "stopped", "infeasible"):
            first.setdefault(trial.key, trial)
    kept = [t for t in first.values() if t.feasible and _point(spec.objectives, t) is not None]
    ranks: dict[int, int] = {}
    rank = 0
    while kept:
        points = np.array([_point(spec.objectives, t) for t in kept])
        best = non_dominated(points)
        ranks |= {t.number: rank for t, b in zip(kept, best, strict=True) if b}
        kept = [t for t, b in zip(kept, best, strict=True) if not b]
        rank += 1
    broken = [t for t in first.values() if not t.feasible]
    excess = {t.number: sum(v for v in t.violations.values() if v > 0) for t in broken}
    for number in sorted(excess, key=lambda n: (excess[n], n)):
        ranks[number] = rank
        rank += 1
    return ranks


def _point(objectives: Sequence[Objective], trial: Trial) -> list[float] | None:
    values = [o.sign * trial.values.get(o.name, math.nan) for o in objectives]
    return values if all(map(math.isfinite, values)) else None


def _study(space: SearchSpace, trials: Sequence[Trial], ranks: dict[int, int]) -> optuna.Study:
    """An Optuna study in memory: each network with the decisions it has, its rank as its value."""
    with quiet():
        study = optuna.create_study(direction="minimize")
        for trial in trials:
            raw, chosen = encode(space, trial.architecture), trial.architecture.choices
            named = [d for d in space.listed if d.name in chosen]
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.COMPLETE,
                    params={d.name: raw[d.name] for d in named},
                    distributions={d.name: distribution(d) for d in named},
                    value=float(ranks[trial.number]),
                )
            )
    return study


def _evaluate(study: optuna.Study, top: float, ranks: dict[int, int]) -> dict[str, float]:
    """Optuna's unscaled importances; the top is the front, or more where the front is less."""
    on_front = sum(r == 0 for r in ranks.values()) / len(ranks)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(max(top, on_front), 0.999))
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # decisions that few networks have: `active`
        return get_param_importances(study, evaluator=evaluator, normalize=False)
