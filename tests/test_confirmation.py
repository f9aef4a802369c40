"""Repeats go where membership is undecided, and end with the doubt or with the share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import toy_spec

from nas.confirmation import PROCESSES, REPEATS, UNCONDITIONAL, Confirmation, Point
from nas.core.architecture import Architecture
from nas.core.job import Measure, Source, Train, Workload
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN, Constraint
from nas.core.study import StudySpec
from nas.core.trial import Rung, Trained, Trial


def trained(accuracy: float, repeat: int = 0, se: float = 0.5) -> Trained:
    return Trained(repeat, "f", accuracy, se, 400, accuracy, se, 200)


def trial(number: int, accuracy: float, macs: float) -> Trial:
    architecture = Architecture("toy", {"kernel": 3, "depth": 1 + number})
    return Trial(number, architecture, state="complete", costs={"macs": macs},
                 build=f"b{number}", file=f"f{number}", trained=(trained(accuracy),))  # fmt: skip


def over(spec: StudySpec, trials: Iterable[Trial]) -> Confirmation:
    """A confirmation of these contenders."""
    found = Confirmation(spec)
    for contender in trials:
        found.take(contender)
    return found


def confirmed(spec: StudySpec, trials: list[Trial]) -> list[int]:
    """The trials that are trained again, in order; every repeat comes out like the first."""
    found = []
    while isinstance(job := over(spec, trials).next((), closing=False), Train):
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
    assert over(toy_spec(trials=30), trials).next((), closing=True) is None


def test_a_trial_that_was_replaced_is_looked_at_again() -> None:
    spec, trials = toy_spec(trials=100, confirm=0.2), [trial(0, 90.0, 1.0), trial(1, 90.1, 1.1)]
    confirmation = over(spec, trials)
    job = confirmation.next((), closing=False)
    assert isinstance(job, Train) and (job.repeat, job.build) == (1, f"b{job.trial}")
    assert confirmation.next((), closing=False) == job
    runs = (*trials[job.trial].trained, trained(90.0, 1))
    confirmation.take(replace(trials[job.trial], trained=runs))
    assert confirmation.next((), closing=False) != job


def test_a_training_that_is_let_go_undone_is_chosen_again() -> None:
    trials = [trial(0, 90.0, 1.0), trial(1, 90.1, 1.1), trial(2, 90.05, 1.05)]
    confirmation = over(toy_spec(trials=100, confirm=0.2), trials)
    first = confirmation.next((), closing=False)
    assert isinstance(first, Train)
    busy = [("train", first.trial, first.repeat)]
    second = confirmation.next(busy, closing=False)
    assert isinstance(second, Train) and second.trial != first.trial
    confirmation.let_go(first.trial)
    assert confirmation.next((), closing=False) == first


def test_a_trial_that_contends_no_more_is_nobodys_rival_and_leaves_its_repeats() -> None:
    spec = toy_spec(trials=10, confirm=0.2)
    twice = replace(trial(1, 90.1, 1.1), trained=(trained(90.1), trained(90.0, 1)))
    confirmation = over(spec, [trial(0, 90.0, 1.0), twice, trial(2, 90.05, 1.05)])
    first = confirmation.next((), closing=False)
    assert isinstance(first, Train) and first.trial != 1
    confirmation.drop(first.trial)
    second = confirmation.next((), closing=False)
    assert isinstance(second, Train) and second.trial not in (1, first.trial)
    confirmation.drop(second.trial)
    again = confirmation.next([("train", 5, 1)], closing=False)
    assert again is None  # one was made, one is under way, and two is the share


def test_a_large_front_is_not_worked_out_after_every_result_but_no_repeat_is_made_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []
    look = Confirmation._look
    monkeypatch.setattr(Confirmation, "_look", lambda self: looks.append(1) or look(self))
    spec = toy_spec(trials=1000, confirm=0.1)
    trials = [trial(n, 60.0 + 0.05 * n, 1.0 + n) for n in range(60)]
    confirmation, made = over(spec, trials), set()
    while isinstance(job := confirmation.next((), closing=False), Train):
        assert (job.trial, job.repeat) not in made
        made.add((job.trial, job.repeat))
        again = trained(trials[job.trial].trained[0].score, job.repeat)
        runs = (*trials[job.trial].trained, again)
        trials[job.trial] = replace(trials[job.trial], trained=runs)
        confirmation.take(trials[job.trial])
    assert len(made) == 100 and len(looks) <= 2 + len(made) / 3


def test_the_rival_of_what_is_undecided_is_as_urgent_and_the_fewest_trainings_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other, third = trial(5, 90.0, 5.0), trial(2, 90.2, 5.1), trial(1, 80.0, 1.0)

    def chosen(*near: Point, trials: Sequence[Trial] = (), busy: Any = ()) -> int | None:
        monkeypatch.setattr(Confirmation, "_found", lambda self: list(near))
        every = {t.number: t for t in (one, other, third, *trials)}
        found = over(toy_spec(trials=100, confirm=0.2), every.values())
        job = found.next(busy, closing=False)
        return job.trial if isinstance(job, Train) else None

    far = Point(1, 0.7, None)
    assert chosen(Point(5, 0.5, 2), far) == 2
    assert chosen(Point(5, 0.5, None), far, Point(2, 0.1, None)) == 5
    twice = replace(other, trained=(trained(90.2), trained(90.1, 1)))
    assert chosen(Point(5, 0.5, 2), far, trials=[twice]) == 5
    assert chosen(Point(5, 0.5, None), far, busy=[("train", 5, 1)]) == 1
    assert chosen(Point(5, 0.5, None), far, busy=[("measure", 5, 0)]) is None
    often = replace(one, trained=tuple(trained(90.0, n) for n in range(REPEATS + 1)))
    assert chosen(Point(5, 0.5, None), trials=[often]) is None
    rarer = replace(often, trained=often.trained[1:])
    assert chosen(Point(5, 0.5, None), trials=[rarer]) == 5


def timing(value: float, objective: str = "latency_ms") -> Measurement:
    return Measurement(objective, value, "ms", value, value, 0.1, 9, "measured", "untrained form")


def test_first_of_all_the_files_near_the_front_are_timed_and_probed_together() -> None:
    spec = toy_spec(
        objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]), probes=("energy_mj",),
        constraints=(Constraint.parse("latency_ms:r64<=9"),),
    )  # fmt: skip
    rungs = (Rung(0, 0, 1, 50.0, 9, "early"), Rung(0, 1, 3, 60.0, 9, "late"),
             Rung(1, 2, 9, 70.0, 9, "other"))  # fmt: skip
    trials = [trial(0, 90.0, 1.0), replace(trial(1, 95.0, 2.0), rungs=rungs), trial(2, 50.0, 3.0)]
    untrained = "latency_ms@cpu:b1/untrained"
    trials = [replace(t, measurements={untrained: timing(1.0 + t.number)}) for t in trials]
    trials[0] = replace(trials[0], build=None)
    wanted = [
        ("latency_ms", Workload()),
        ("latency_ms", Workload(1, 64)),
        ("energy_mj", Workload()),
    ]
    for objective, workload in wanted:
        job = over(spec, trials).next((), closing=True)
        assert isinstance(job, Measure)
        assert (job.trials, job.files, job.builds) == ((0, 1), ("f", "f"), ("", "b1"))
        assert (job.objective, job.workload, job.device) == (objective, workload, "cpu")
        assert (job.form, job.processes) == ("trained", PROCESSES)
        points = [t.architecture for t in trials]
        sources = (Source(points[0], None), Source(points[1], "late"))
        assert job.sources == (sources if workload.resolution else ())
        name = f"{objective}@cpu:{workload.name}/trained"
        for at in job.trials:
            numbers = {**trials[at].measurements, name: timing(1.0 + at, objective)}
            trials[at] = replace(trials[at], measurements=numbers)
    assert over(spec, trials).next((), closing=True) is None
    failed = [replace(t, attempts=2, measurements={untrained: timing(1.0)}) for t in trials[:1]]
    assert over(spec, failed).next((), closing=True) is None
