"""Events are the history; trials are what they add up to."""

from __future__ import annotations

import json

import generators
from conftest import toy_space
from hypothesis import given

from nas.core.trial import Event, History, Trial, measurement_name, reports_of

POINT = toy_space().architecture({"kernel": 5, "depth": 2, "width": 16})


@given(generators.events)
def test_events_round_trip(event: Event) -> None:
    assert Event.from_json(json.loads(json.dumps(event.to_json()))) == event


def test_a_trial_is_feasible_while_no_constraint_is_broken() -> None:
    assert Trial(0, POINT).feasible
    assert Trial(0, POINT, violations={"a": 0.0, "b": -1.0}).feasible
    assert not Trial(0, POINT, violations={"a": -1.0, "b": 1e-9}).feasible


def test_the_key_is_the_architectures() -> None:
    assert Trial(0, POINT).key == Trial(9, POINT, origin="preset").key == POINT.key


def test_history_grows_at_the_end_and_indexes_what_strategies_ask() -> None:
    events = [Event("proposed", 0, {}), Event("proposed", 1, {}), Event("reported", 0, {}),
              Event("told", 0, {"state": "complete"})]  # fmt: skip
    history = History(events[:2])
    for event in events[2:]:
        history.append(event)
    assert history.events == events and len(history) == 4
    assert history.proposals == {0: events[0], 1: events[1]}
    assert history.results == {0: events[3]}
    events.clear()
    assert len(history) == 4
    history.append(Event("resumed", 0, {}))
    assert history.results == {} and history.resumed == {0}


def test_measurements_are_named_after_all_that_tells_them_apart() -> None:
    assert measurement_name("latency_ms", "cpu", "b1", "trained") == "latency_ms@cpu:b1/trained"


def test_reports_are_of_the_first_training_and_before_it_of_the_build() -> None:
    opened = Event("proposed", 0, {"architecture": POINT.to_json(), "origin": "strategy"})
    other = Event("proposed", 1, {"architecture": {"space": "toy", "choices": {"kernel": 3}}})
    built = [{"transform": "fold", "touched": ["a: b"], "skipped": [], "notes": []}]
    trained = [*built, {"transform": "bitwidth", "touched": [], "skipped": [], "notes": []}]
    events = [opened, other, Event("reported", 1, {"job": "build", "reports": trained})]
    assert reports_of(events, POINT.key) == []
    events.append(Event("reported", 0, {"job": "build", "reports": built}))
    assert reports_of(events, POINT.key) == built
    events.append(Event("reported", 0, {"job": "train", "trained": {"reports": trained}}))
    assert reports_of(events, POINT.key) == trained
