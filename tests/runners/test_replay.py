"""A replay counts what is new, lets the clock run as trainings do, and scores what was trained."""

from dataclasses import replace

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.decision import Choice
from nas.core.objective import Objective
from nas.core.pareto import hypervolume
from nas.core.space import SearchSpace
from nas.core.trial import Proposal
from nas.runners.replay import REPEATS, Oracle, Replay, Run, summary
from nas.runners.table import Level, Table
from nas.strategies.candidates import Genes
from nas.strategies.choose import create
from nas.strategies.observations import Observations

ERRORS = np.array([[50.0, 52.0], [40.0, np.nan], [30.0, 34.0], [20.0, 20.0], [45.0, 45.0]])
COSTS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def toy(levels=()):
    """Five networks in a line: the wider, the better and dearer; the last is dominated."""
    return Table(
        name="toy",
        space=SearchSpace("toy", [Choice("width", [0, 1, 2, 3, 4])], build=lambda c, t: None),
        complete=True,
        objectives=(
            Objective("error", "%", "minimize", "trained"),
            Objective("cost", "ms", "minimize", "file"),
        ),
        known=(False, True),
        values=(ERRORS, COSTS[:, None]),
        codes=np.arange(5)[:, None],
        levels=levels,
        reference=(60.0, 6.0),
    )


class Listed:
    """Proposes what it was given, then the last of it for ever; remembers what it saw."""

    def __init__(self, *widths):
        self.widths = widths
        self.seen = []

    def propose(self, history, count):
        self.seen.append([e.kind for e in history.events])
        at = min(len(history.proposals), len(self.widths) - 1)
        return [Proposal(Architecture("toy", {"width": self.widths[at]}))]


def test_the_curve_is_the_share_of_the_true_hypervolume():
    table = toy()
    run = Replay(table, Listed(3, 0, 4), seed=0).run(3)
    volumes = [hypervolume(table.scored[rows], table.bound) for rows in ([3], [3, 0], [3, 0, 4])]
    whole = hypervolume(table.scored, table.bound)
    assert [n for n, _ in run.curve] == [1, 2, 3]
    assert [r for _, r in run.curve] == pytest.approx([v / whole for v in volumes])
    assert Replay(table, Listed(0, 1, 2, 3), seed=0).run(9).curve[-1][1] == pytest.approx(1.0)


def test_duplicates_are_free_and_end_a_run_that_brings_nothing_else():
    strategy = Listed(2, 2, 2, 1, 1)
    run = Replay(toy(), strategy, seed=0).run(3)
    assert len(run.curve) == 2
    assert len(strategy.seen) == 4 + REPEATS + 1


def test_one_column_is_observed_and_another_where_it_is_blank():
    table = toy()
    told = set()
    for seed in range(20):
        replay = Replay(table, Listed(0, 1), seed)
        replay.run(2)
        first, second = (replay._history.results[i].payload["values"] for i in (0, 1))
        told.add(first["error"])
        assert second["error"] == 40.0 and first["cost"] == 1.0
    assert told == {50.0, 52.0}


def test_workers_share_the_clock_and_twins_wait_for_the_first():
    levels = (Level(1.0, np.full((5, 1), 70.0)), Level(10.0, ERRORS))
    alone = Replay(toy(levels), Listed(0, 1, 2, 3), seed=0, workers=1).run(4)
    together = Replay(toy(levels), Listed(0, 1, 2, 3), seed=0, workers=4).run(4)
    assert alone.epochs_curve[-1][0] == 40.0
    assert together.epochs_curve[-1][0] == 10.0
    assert together.curve[-1] == alone.curve[-1]
    replay = Replay(toy(levels), Listed(0, 0, 1), seed=0, workers=2)
    replay.run(2)
    assert replay._history.results[1].payload["reused"] == "trial 0"


def test_halving_stops_what_is_dominated_and_saves_its_epochs():
    levels = (Level(1.0, ERRORS), Level(10.0, ERRORS))
    run = Replay(toy(levels), Listed(3, 4), seed=0, promotion="halving").run(2)
    assert run.stopped == 1
    assert run.epochs_curve[-1][0] == 11.0


def test_what_is_stopped_is_told_with_the_value_of_its_rung_and_not_scored():
    shorter = np.where(np.arange(5)[:, None] == 2, 90.0, 10.0)
    levels = (Level(1.0, shorter), Level(10.0, ERRORS))
    replay = Replay(toy(levels), Listed(0, 2), seed=0, promotion="halving")
    run = replay.run(2)
    result = replay._history.results[1].payload
    assert result["state"] == "stopped" and result["values"]["error"] == 90.0
    assert run.curve[0][1] == run.curve[1][1]


@pytest.mark.parametrize("first", ["loss", "error"])
def test_a_rung_is_of_the_first_objective_whatever_the_others_are_called(first):
    levels = (Level(1.0, ERRORS + 7), Level(10.0, ERRORS))
    second = "error" if first == "loss" else "loss"
    table = replace(
        toy(levels),
        objectives=(
            Objective(first, "", "minimize", "trained"),
            Objective(second, "", "minimize", "trained"),
        ),
        known=(False, False),
    )
    replay = Replay(table, Listed(3, 4), seed=0, promotion="halving")
    assert replay.run(2).stopped == 1
    past = Observations(Genes(table.space), table.objectives, ())
    past.follow(replay._history)
    assert past.rung(2).values.tolist() == pytest.approx([27.0, 52.0])
    assert past.objective(0, 2).trials.tolist() == [0, 1]  # the second one guessed
    assert past.objective(1, 2).trials.tolist() == [0]


def test_the_oracle_counts_distinct_architectures():
    oracle = Oracle(toy(), 0)
    assert oracle(Architecture("toy", {"width": 2})) == {"cost": 3.0}
    oracle(Architecture("toy", {"width": 2}))
    assert oracle.asks == 1


def test_the_oracle_says_what_the_run_of_its_seed_will_see():
    costs = np.column_stack([COSTS, COSTS + 10])
    costs[3, 0] = np.nan
    table = replace(toy(), values=(ERRORS, costs))
    answers = set()
    for seed in range(20):
        oracle, replay = Oracle(table, seed), Replay(table, Listed(0, 3), seed)
        replay.run(2)
        for number, width in enumerate((0, 3)):
            known = oracle(Architecture("toy", {"width": width}))
            assert known["cost"] == replay._history.results[number].payload["values"]["cost"]
            answers.add(known["cost"])
    assert answers == {1.0, 11.0, 14.0}


@pytest.mark.parametrize("name", ["surrogate", "evolution", "nsga2", "random"])
def test_every_strategy_finds_all_of_a_small_table(name):
    table = toy()
    strategy = create(name, table.space, table.objectives, (), 1)
    run = Replay(table, strategy, seed=1).run(5)
    assert run.curve[-1][1] == pytest.approx(1.0) or len(run.curve) < 5


def test_a_summary_counts_who_never_got_there():
    runs = [Run(0, ((1, 0.5), (2, 0.96)), ((1.0, 0.5), (2.0, 0.96))),
            Run(1, ((1, 0.2),), ((1.0, 0.2),)), Run(2, ((1, 0.97),), ((1.0, 0.97),))]  # fmt: skip
    found = summary(runs)
    assert found["evaluations"]["0.95"] == {"median": 2.0, "low": 1.0, "high": None, "reached": 2}
    assert found["evaluations"]["0.99"]["median"] is None


class Returning(Listed):
    """Goes on with the first stopped trial once it has proposed all that it was given."""

    resumes = True

    def propose(self, history, count):
        stopped = [n for n, e in history.results.items() if e.payload["state"] == "stopped"]
        if len(history.proposals) < len(self.widths) or not stopped:
            return super().propose(history, count)
        width = {"width": self.widths[stopped[0]]}
        return [Proposal(Architecture("toy", width), resumes=stopped[0])]


def test_a_resumed_trial_costs_the_epochs_that_were_left_and_is_scored(monkeypatch):
    monkeypatch.setattr("nas.core.promotion.FULL", 4)
    levels = (Level(10.0, ERRORS + 20), Level(30.0, ERRORS + 10), Level(90.0, ERRORS))
    table = toy(levels)
    replay = Replay(table, Returning(0, 1, 2, 4, 3), seed=0, promotion="halving")
    # the first four are trained to the end; the fifth waits at the rung near a ninth
    assert replay.run(5).stopped == 1
    strategy = Returning(0, 1, 2, 4, 3, 4)
    replay = Replay(table, strategy, seed=0, promotion="halving")
    run = replay.run(6)
    assert run.stopped == 0
    assert [n for n, _ in run.curve] == [1, 2, 3, 4, 5, 5]
    assert [e for e, _ in run.epochs_curve] == [90.0, 180.0, 270.0, 360.0, 370.0, 450.0]
    assert run.curve[-1][1] == pytest.approx(1.0) and run.curve[-2][1] < 1.0
    told = [e for e in replay._history.events if e.trial == 4 and e.kind != "reported"]
    assert [e.kind for e in told] == ["proposed", "told", "resumed", "told"]
    assert told[-1].payload["values"]["error"] == 20.0
