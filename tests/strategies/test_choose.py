"""Strategies are found by name, and a wrong name by the nearest right one."""

import pytest

from nas.core.decision import Choice
from nas.core.errors import NasError
from nas.core.objective import BUILTIN
from nas.core.space import SearchSpace
from nas.core.trial import History
from nas.strategies.choose import create, names
from nas.strategies.optuna import SHORT
from nas.strategies.predictor import PredictorSearch

SPACE = SearchSpace("toy", [Choice("kernel", [3, 5, 7])], build=lambda choices, task: None)
OBJECTIVES = [BUILTIN["accuracy"], BUILTIN["macs"]]


@pytest.mark.parametrize("name", [n for n in names() if n not in ("edo", "senn")])
def test_every_name_makes_a_strategy(name: str) -> None:
    [proposal] = create(name, SPACE, OBJECTIVES, seed=1).propose(History(), 1)
    assert proposal.architecture.choices["kernel"] in (3, 5, 7)


def test_a_short_name_is_the_sampler_of_that_name() -> None:
    short = create("nsga2", SPACE, OBJECTIVES, seed=1).propose(History(), 3)
    assert short == create("optuna:NSGAIISampler", SPACE, OBJECTIVES, seed=1).propose(History(), 3)


@pytest.mark.parametrize("short", SHORT)
def test_a_short_name_stands_behind_the_prefix_too(short: str) -> None:
    found, named = (
        create(name, SPACE, OBJECTIVES, seed=1).propose(History(), 3)
        for name in (f"optuna:{short}", short)
    )
    assert found == named


def test_linas_is_predictor_search() -> None:
    assert isinstance(create("linas", SPACE, OBJECTIVES), PredictorSearch)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("nsga", "or 'nsga2'?"),
        ("evolutoin", "did you mean 'evolution'"),
        ("optuna:NSGA2Sampler", "did you mean 'NSGAIISampler'"),
        ("optuna:nsga22", "'nsga2'"),
        ("", "known: "),
    ],
)
def test_an_unknown_name_gets_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(NasError) as caught:
        create(wrong, SPACE, OBJECTIVES)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["CmaEsSampler", "GridSampler", "BruteForceSampler"])
def test_samplers_that_cannot_be_rebuilt_are_refused(name: str) -> None:
    with pytest.raises(NasError, match="cannot be a strategy"):
        create(f"optuna:{name}", SPACE, OBJECTIVES)
    assert f"optuna:{name}" not in names()
