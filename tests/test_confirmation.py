"""Repeats go where membership is undecided, and end with the doubt or with the share."""

from __future__ import annotations

from dataclasses import replace

from conftest import toy_spec

from nas.confirmation import UNCONDITIONAL, Confirmation
from nas.core.architecture import Architecture
from nas.core.job import Train
from nas.core.study import StudySpec
from nas.core.trial import Trained, Trial


def trained(accuracy: float, repeat: int = 0, se: float = 0.5) -> Trained:
    return Trained(repeat, "f", accuracy, se, 400, accuracy, se, 200)


def trial(number: int, accuracy: float, macs: float) -> Trial:
    architecture = Architecture("toy", {"kernel": 3, "depth": 1 + number})
    return Trial(number, architecture, state="complete", costs={"macs": macs},
                 trained=(trained(accuracy),))  # fmt: skip


def confirmed(spec: StudySpec, trials: list[Trial]) -> list[int]:
    """The trials that are trained again, in order; every repeat comes out like the first."""
    found = []
    while isinstance(job := Confirmation(spec).next(trials, (), closing=False), Train):
        assert job.seed == spec.seed + job.repeat and len(found) < 100
        again = trained(trials[job.trial].trained[0].score, job.repeat)
        runs = (*trials[job.trial].trained, again)
        trials[job.trial] = replace(trials[job.trial], trained=runs)
        found.append(job.trial)
    return found


def test_the_undecided_are_trained_again_and_the_rest_is_not() -> None:
    spec = toy_spec(trials=100, confirm=0.2)
    # The second and third cannot be told apart; the first is cheap, the last two hopeless.
    trials = [trial(0, 70.0, 1.0), trial(1, 90.0, 5.0), trial(2, 90.2, 5.1), trial(3, 60.0, 6.0),
              trial(4, 50.0, 7.0)]  # fmt: skip
    chosen = confirmed(spec, trials)
    assert chosen.count(1) + chosen.count(2) >= len(chosen) - UNCONDITIONAL
    assert not {3, 4} & set(chosen)
    assert abs(chosen.count(1) - chosen.count(2)) <= 1 + UNCONDITIONAL


def test_no_more_than_the_share_is_spent() -> None:
    trials = [trial(n, 90.0 + 0.01 * n, 5.0 + 0.01 * n) for n in range(6)]
    assert len(confirmed(toy_spec(trials=30, confirm=0.2), list(trials))) == 6
    assert confirmed(toy_spec(trials=30, confirm=0.0), list(trials)) == []


def test_a_decided_front_is_repeated_only_to_know_the_noise() -> None:
    trials = [trial(0, 60.0, 1.0), trial(1, 75.0, 2.0), trial(2, 90.0, 3.0)]
    assert len(confirmed(toy_spec(trials=100, confirm=0.5), trials)) == UNCONDITIONAL


def test_a_search_that_is_closing_trains_nothing_more() -> None:
    trials = [trial(n, 90.0, 5.0 + n) for n in range(3)]
    assert Confirmation(toy_spec(trials=30)).next(trials, (), closing=True) is None
