"""What an Optuna study in memory makes of a history."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import NSGAIISampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from nas.core.decision import Choice, Integer, Real
from nas.core.objective import BUILTIN, Constraint
from nas.core.space import SearchSpace
from nas.strategies.mirror import Mirror, Raw, decode, encode, recorded

SPACE = SearchSpace(
    "toy",
    [
        Choice("stride", [1, 2]),
        Choice("kernel", [3, 7, 13], within={"stride": {2: [3]}}),
        Choice("dilation", [1, 2], when={"kernel": [3]}),
        Choice("norm", ["batch", "layer"]),
        Integer("depth", 2, 8, step=2),
        Real("rate", 1e-3, 1.0, log=True),
    ],
    build=lambda choices, task: None,
    presets={"big": {"stride": 1, "kernel": 51, "norm": "layer", "depth": 4, "rate": 0.5}},
)
OBJECTIVES = [BUILTIN["accuracy"], BUILTIN["macs"]]
LIMIT = Constraint.parse("latency_ms<=5")


def mirror() -> tuple[Mirror, dict[int, Raw]]:
    made = Mirror(SPACE, OBJECTIVES, [LIMIT])
    raws = {}
    for number in range(4):
        raws[number], _ = made.ask(RandomSampler(seed=number))
        made.meet(number, raws[number])
    return made, raws


def seen(made: Mirror) -> list[FrozenTrial]:
    return made._study.get_trials()


def told(state: str, broken: float | None = None, **values: float) -> dict[str, Any]:
    violations = {} if broken is None else {str(LIMIT): broken}
    return {"state": state, "values": values, "violations": violations}


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_an_architecture_goes_to_raw_parameters_and_back(seed: int) -> None:
    architecture = SPACE.sample(np.random.default_rng(seed))
    assert decode(SPACE, encode(SPACE, architecture)) == architecture


def test_raw_parameters_beyond_the_limits_are_repaired() -> None:
    raw: Raw = {"stride": 1, "kernel": 2, "dilation": 1, "norm": 0, "depth": 4, "rate": 0.1}
    assert dict(decode(SPACE, raw).choices) == {
        "stride": 2, "kernel": 3, "dilation": 2, "norm": "batch", "depth": 4, "rate": 0.1,
    }  # fmt: skip


def test_a_result_of_another_architecture_is_of_its_own_parameters() -> None:
    asked: Raw = {"stride": 1, "kernel": 2, "dilation": 1, "norm": 0, "depth": 4, "rate": 0.1}
    assert recorded(SPACE, asked, decode(SPACE, asked)) is asked  # as asked, though repaired
    other = SPACE.architecture(
        {"stride": 2, "kernel": 3, "dilation": 1, "norm": "layer", "depth": 8, "rate": 0.1}
    )
    found = recorded(SPACE, asked, other)
    assert decode(SPACE, found) == other
    without = SPACE.architecture(
        {"stride": 1, "kernel": 7, "norm": "batch", "depth": 4, "rate": 0.1}
    )
    assert recorded(SPACE, asked, without)["dilation"] == 1  # has no effect, and stays
    made = Mirror(SPACE, OBJECTIVES)
    made.ask(RandomSampler(seed=0))
    made.meet(7, found)
    assert seen(made)[0].params == found


def test_a_published_value_becomes_the_nearest_one_that_is_proposed() -> None:
    raw = encode(SPACE, SPACE.preset("big"))
    assert SPACE.listed[1].values[int(raw["kernel"])] == 13  # type: ignore[union-attr]
    assert raw["rate"] == 0.5 and raw["depth"] == 4


def test_asking_gives_every_decision_a_raw_value() -> None:
    made, raws = mirror()
    assert all(raw.keys() == {d.name for d in SPACE.listed} for raw in raws.values())
    assert [t.state for t in seen(made)] == [TrialState.RUNNING] * 4


def test_a_complete_trial_has_its_values_and_its_constraints() -> None:
    made, raws = mirror()
    made.tell(1, told("complete", -0.2, accuracy=80.0, macs=5.0))
    trial = seen(made)[1]
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [80.0, 5.0] and trial.params == raws[1]
    assert trial.constraints == {"latency_ms<=5": -0.2}


def test_a_stopped_trial_has_the_values_of_its_rung() -> None:
    made, _ = mirror()
    made.tell(0, told("stopped", accuracy=30.0, macs=5.0))
    trial = seen(made)[0]
    assert trial.state == TrialState.COMPLETE and trial.values == [30.0, 5.0]
    assert trial.constraints == {"latency_ms<=5": 0.0}


def test_an_infeasible_trial_takes_the_worst_values_so_far_for_those_it_lacks() -> None:
    made, _ = mirror()
    made.tell(0, told("complete", -0.1, accuracy=80.0, macs=5.0))
    made.tell(1, told("complete", -0.1, accuracy=60.0, macs=9.0))
    made.tell(2, told("infeasible", 0.4, macs=7.0))
    made.tell(3, told("infeasible", 0.7))
    assert [t.values for t in seen(made)[2:]] == [[60.0, 7.0], [60.0, 9.0]]
    assert [t.constraints["latency_ms<=5"] for t in seen(made)[2:]] == [0.4, 0.7]
    best = {t.number for t in made._study.best_trials}
    assert best == {0}


@pytest.mark.parametrize(
    "payload",
    [told("failed"), told("failed", 0.5), told("complete", accuracy=5.0),
     told("complete", accuracy=math.nan, macs=1.0), told("stopped", -1.0, accuracy=math.inf)],
)  # fmt: skip
def test_what_teaches_nothing_fails(payload: dict[str, Any]) -> None:
    made, _ = mirror()
    made.tell(2, payload)
    assert seen(made)[2].state == TrialState.FAIL


def test_the_first_result_stays_and_unknown_trials_are_ignored() -> None:
    made, _ = mirror()
    made.tell(0, told("complete", accuracy=80.0, macs=5.0))
    made.tell(0, told("complete", accuracy=90.0, macs=1.0))
    made.tell(99, told("complete", accuracy=90.0, macs=1.0))
    assert seen(made)[0].values == [80.0, 5.0]
    assert len(seen(made)) == 4


def test_a_trial_from_elsewhere_joins_the_current_generation() -> None:
    made = Mirror(SPACE, OBJECTIVES)
    made.add(0, encode(SPACE, SPACE.preset("big")), {})
    made.welcome(0, RandomSampler(seed=0))
    assert seen(made)[0].system_attrs == {}
    made.welcome(0, NSGAIISampler(seed=0))
    assert list(seen(made)[0].system_attrs.values()) == [0]


def test_optuna_keeps_its_own_level_of_logging() -> None:
    before = optuna.logging.get_verbosity()
    mirror()
    assert optuna.logging.get_verbosity() == before
