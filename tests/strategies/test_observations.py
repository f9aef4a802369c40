"""What is read from a history: results once, pending trials, and guesses from lower rungs."""

import numpy as np
import pytest

from nas.core.decision import Choice
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event, History
from nas.strategies.candidates import Genes
from nas.strategies.observations import Observations

SPACE = SearchSpace("line", [Choice("width", list(range(64)))], build=lambda c, t: None)
ACCURACY = Objective("accuracy", "%", "maximize", "trained")
ERROR = Objective("error", "%", "minimize", "trained")
SIZE = Objective("size_mb", "10^6 bytes", "minimize", "file")


def proposed(trial, width):
    architecture = SPACE.architecture({"width": width}).to_json()
    return Event("proposed", trial, {"architecture": architecture, "origin": "strategy",
                                     "notes": {}})  # fmt: skip


def rung(trial, number, epochs, score):
    values = {"epochs": epochs, "score": score, "n": 100}
    return Event("reported", trial, {"job": "train", "repeat": 0, "rung": number,
                                     "values": values, "decision": "continue"})  # fmt: skip


def told(trial, state, violations=None, **values):
    return Event("told", trial, {"state": state, "values": values, "error": None,
                                 "violations": violations or {}})  # fmt: skip


def read(*events, objectives=(ACCURACY, SIZE), constraints=()):
    found = Observations(Genes(SPACE), objectives, constraints)
    assert found.follow(History(list(events)))
    return found


def test_results_are_minimised_and_pending_trials_known():
    found = read(
        *(proposed(trial, 3 + trial) for trial in range(3)),
        told(1, "complete", accuracy=80.0, size_mb=2.0),
    )
    assert found.pending == [0, 2]
    assert found.objective(0, 1).values.tolist() == [-80.0]
    assert found.objective(1, 1).values.tolist() == [2.0]
    assert found.objective(0, 0).values.tolist() == []


def known(number, width, state="complete", rungs=(), **values):
    payload = {"architecture": SPACE.architecture({"width": width}).to_json(), "study": "other",
               "trial": number, "state": state, "values": values, "violations": {},
               "rungs": [list(r) for r in rungs]}  # fmt: skip
    return Event("known", -1 - number, payload)


def test_results_of_other_studies_teach_but_are_not_this_studys():
    found = read(
        known(0, 5, rungs=[(1, 50.0), (9, 70.0)], accuracy=70.0, size_mb=3.0),
        known(1, 6, "stopped", [(1, 40.0)], size_mb=1.0),
        proposed(0, 7), told(0, "complete", accuracy=80.0, size_mb=2.0),
    )  # fmt: skip
    assert found.told == [-1, -2, 0] and found.mine.tolist() == [False, False, True]
    assert found.pending == []
    assert found.objective(1, 3).values.tolist() == [3.0, 1.0, 2.0]
    assert found.objective(0, 3).trials.tolist() == [-1, -2, 0]
    assert found.objective(0, 3).doubt[1] > 0  # of its one rung
    assert len(found.seen) == 1  # theirs may still be proposed


def test_a_result_taken_over_counts_once():
    """Told again as this study's own, it would say that there is no noise."""
    found = read(
        known(0, 5, accuracy=70.0), proposed(0, 5), told(0, "complete", accuracy=70.0),
    )  # fmt: skip
    assert found.objective(0, 1).trials.tolist() == [-1]
    assert found.objective(0, 2).trials.tolist() == [0]


def test_results_of_networks_that_the_space_cannot_have_are_left_out():
    odd = known(0, 5, accuracy=70.0)
    odd.payload["architecture"]["choices"] = {"depth": 3}
    assert read(odd).told == []


def test_errors_of_other_studies_are_turned_as_ones_own():
    found = read(known(0, 5, "stopped", [(1, 40.0)]), objectives=(ERROR, SIZE))
    assert found.objective(0, 1).values.tolist() == [60.0]


def test_copies_and_failures_say_nothing_but_are_not_tried_again():
    copy = Event("told", 1, {**told(1, "complete", accuracy=80.0).payload, "reused": "trial 0"})
    found = read(proposed(0, 3), proposed(1, 3), proposed(2, 9), told(0, "complete", accuracy=80.0),
                 copy, told(2, "failed"))  # fmt: skip
    assert found.told == [0] and found.pending == []
    assert len(found.seen) == 2


def test_violations_are_read_by_their_text():
    limit = Constraint.parse("size_mb<=1")
    found = read(proposed(0, 3), told(0, "infeasible", {"size_mb<=1": 0.5}, size_mb=1.5),
                 constraints=(limit,))  # fmt: skip
    assert found.constraint("size_mb<=1", 1).values.tolist() == [0.5]
    assert found.violation(0) == 0.5
    assert len(found.objective(0, 1)) == 0


@pytest.mark.parametrize(("objective", "sign"), [(ACCURACY, -1.0), (ERROR, 1.0)])
def test_a_stopped_trial_is_guessed_from_those_that_went_on(objective, sign):
    # The full score is 20 + 0.8 times the one at the first rung, but for a little.
    rng = np.random.default_rng(0)
    events, short = [], rng.uniform(30, 70, size=30)
    for trial, score in enumerate(short):
        events += [proposed(trial, trial), rung(trial, 0, 1, score)]
        full = 20 + 0.8 * score + 0.1 * rng.normal()
        if trial < 20:
            events.append(rung(trial, 1, 9, full))
            value = full if objective is ACCURACY else 100 - full
            events.append(told(trial, "complete", **{objective.name: value}))
        else:
            value = score if objective is ACCURACY else 100 - score
            events.append(told(trial, "stopped", **{objective.name: value}))
    data = read(*events, objectives=(objective, SIZE)).objective(0, 30)
    expected = 20 + 0.8 * short[20:]
    expected = expected if objective is ACCURACY else 100 - expected
    assert np.allclose(data.values[20:], sign * expected, atol=0.3)
    assert (data.doubt[:20] == 0).all() and (data.doubt[20:] > 0).all()
    assert (data.doubt[20:] < 0.1).all()


def test_rungs_far_from_the_full_one_are_chained():
    events = []
    for trial in range(24):
        events += [proposed(trial, trial), rung(trial, 0, 1, 10.0 + trial)]
        if trial % 2 == 0:
            events.append(rung(trial, 1, 3, 30.0 + trial))
        if trial % 4 == 0:
            events += [
                rung(trial, 2, 9, 50.0 + trial),
                told(trial, "complete", accuracy=50.0 + trial),
            ]
        else:
            last = 30.0 + trial if trial % 2 == 0 else 10.0 + trial
            events.append(told(trial, "stopped", accuracy=last))
    data = read(*events).objective(0, 24)
    assert np.allclose(data.values, -(50.0 + data.trials), atol=1e-6)


def test_another_past_is_noticed():
    found = Observations(Genes(SPACE), (ACCURACY,), ())
    assert found.follow(History([proposed(0, 3)]))
    assert not found.follow(History([proposed(0, 4)]))


def test_who_stopped_may_go_on_and_how_much_is_left_of_each():
    events = []
    for trial, last in enumerate([9, 3, 1, 3]):
        reached = [e for e in (1, 3, 9) if e <= last]
        events.append(proposed(trial, trial))
        events += [rung(trial, n, epochs, 50.0 + epochs) for n, epochs in enumerate(reached)]
    events += [
        told(1, "stopped", accuracy=53.0), told(0, "complete", accuracy=59.0),
        told(2, "stopped", accuracy=51.0), told(3, "stopped", accuracy=53.0),
        known(8, 9, "stopped", [(3, 50.0)]),
    ]  # fmt: skip
    found = read(*events)
    assert found.judged == 3.0
    assert found.stopped == [1, 2, 3] and found.resumable == [1, 3]
    assert found.left([0, 1, 2]).tolist() == pytest.approx([0.0, 2 / 3, 8 / 9])
    data = found.rung(4)
    assert data.trials.tolist() == [1, 0, 3] and data.values.tolist() == [-53.0] * 3
    events.append(Event("resumed", 1, {}))
    found = read(*events)
    assert (found.under_way, found.stopped, found.resumable) == ([1], [2, 3], [3])
    found = read(*events, rung(1, 2, 9, 58.0), told(1, "complete", accuracy=58.0))
    assert (found.under_way, found.stopped, found.told) == ([], [2, 3], [1, 0, 2, 3, -9, 1])
    assert found.trials == [1, 0, 2, 3, -9]
    assert found.objective(0, 6).values[0] == -58.0
    assert found.objective(0, 6, guessed=False).trials.tolist() == [1, 0]
    assert found.objective(0, 5, guessed=False).trials.tolist() == [0]  # as the first result said


def test_points_are_those_with_all_objectives_and_the_feasible_where_there_are_any():
    broken = {"size_mb<=1": 0.5, "macs<=1": -0.9}
    events = [
        *(proposed(t, t) for t in range(3)),
        told(0, "infeasible", broken, accuracy=90.0, size_mb=1.5),
        told(1, "complete", size_mb=0.5),
    ]
    found = read(*events)
    assert found.violation(0) == 0.5 and found.violation(2) == 0.0
    trials, rows = found.points(2)
    assert trials.tolist() == [0] and rows.tolist() == [[-90.0, 1.5]]
    found = read(*events, told(2, "complete", {"size_mb<=1": 0.0}, accuracy=70.0, size_mb=1.0))
    assert found.points(3)[0].tolist() == [2] and found.points(2)[0].tolist() == [0]
    assert found.points(3, feasible=False)[1].tolist() == [[-90.0, 1.5], [-70.0, 1.0]]
    assert found.points(0)[1].shape == (0, 2)


def test_what_was_asked_is_not_asked_again_though_another_was_given():
    given, asked = proposed(0, 3), proposed(1, 9)
    given.payload["asked"] = asked.payload["architecture"]
    assert len(read(given).seen) == 2
