"""Who goes on at a rung: what is asked before the rule is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conftest import toy_spec
from example_trials import trial

from nas.core.rungs import Rungs
from nas.core.study import StudySpec

SPEC = toy_spec(promotion="halving")


def reached(spec: StudySpec = SPEC, **given: Any) -> Rungs:
    """Rungs at whose first one nine good and small networks have been."""
    rungs = Rungs(spec, **{"resuming": False, "resumed": set(), **given})
    for number in range(9):
        report = {"decision": "continue", "repeat": 0, "rung": 0, "values": {"score": 90.0}}
        rungs.take(trial(number), report)
    return rungs


def decided(rungs: Rungs, number: int = 20, repeat: int = 0, rung: int = 0, **score: float) -> str:
    return rungs.decide(trial(number, macs=5.0), repeat, rung, {"score": 10.0} | score)


def test_the_worst_stops_and_the_best_goes_on() -> None:
    assert decided(reached()) == "stop"
    assert decided(reached(), score=99.0) == "continue"


def test_a_repeat_the_last_rung_and_a_search_without_a_rule_stop_nobody() -> None:
    assert decided(reached(), repeat=1) == "continue"
    assert decided(reached(), rung=len(SPEC.fidelity.rungs) - 1) == "continue"
    assert decided(reached(replace(SPEC, promotion="none"))) == "continue"


def test_nobody_is_stopped_twice_and_the_first_preset_never() -> None:
    assert decided(reached(resumed={20})) == "continue"
    given = replace(SPEC, presets=("untouched",))
    assert decided(reached(given), number=0) == "continue"
    assert decided(reached(given), number=20) == "stop"


def test_the_report_of_a_repeat_and_of_an_end_are_no_standing() -> None:
    rungs = Rungs(SPEC, False, set())
    rungs.take(trial(0), {"trained": {}, "repeat": 0})
    values = {"score": 90.0}
    rungs.take(trial(0), {"decision": "continue", "repeat": 1, "rung": 0, "values": values})
    assert decided(rungs) == "continue"


def test_under_hyperband_a_trial_is_compared_with_its_own_bracket() -> None:
    spec = replace(SPEC, promotion="hyperband")
    rungs = reached(spec)
    late = next(n for n in range(9, 60) if decided(rungs, number=n) == "continue")
    again = next(n for n in range(9, 60) if decided(rungs, number=n) == "stop")
    assert late != again
