from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import CHECKPOINT, ToyPerform, toy_space, toy_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core.architecture import Architecture
from nas.core.decision import Choice
from nas.core.front import front_of
from nas.core.job import Done, Measure, Outcome, Train, Wait, job_from_json, job_to_json
from nas.core.objective import BUILTIN, Constraint
from nas.core.promotion import judged
from nas.core.space import SearchSpace
from nas.core.study import Start, StudySpec
from nas.core.target import Target
from nas.core.trial import Event, History, Proposal
from nas.engine import Search


class Sampling:
    """A strategy in three lines: the seed of a proposal is the study's seed and its number."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def propose(self, history: History, count: int) -> list[Proposal]:
        import numpy as np

        first = len(history.proposals)
        rngs = [np.random.default_rng([self.seed, first + i]) for i in range(count)]
        return [Proposal(toy_space().sample(rng), {"seed": self.seed}) for rng in rngs]


class Resuming(Sampling):
    """Goes on with the latest stopped trial at every third proposal or so."""

    resumes = True

    def propose(self, history: History, count: int) -> list[Proposal]:
        """One at a time is all that is asked for."""
        stopped = [
            n
            for n, event in history.results.items()
            if event.payload["state"] == "stopped" and n not in history.resumed
            and "reused" not in event.payload
        ]  # fmt: skip
        if not stopped or len(history.proposals) % 3:
            return super().propose(history, count)
        made = history.proposals[stopped[-1]].payload["architecture"]
        return [Proposal(Architecture.from_json(made), resumes=stopped[-1])]


def new_search(spec: StudySpec, history: Sequence[Event] = (), width: int = 1) -> Search:
    return Search(spec, toy_space(), Sampling(spec.seed), history, width)


def drive(search: Search, perform: ToyPerform, stop_after: int | None = None) -> list[Event]:
    """Runs a search to its end, or until so many jobs were done; returns its events."""
    events: list[Event] = []
    for done in range(10_000):
        if done == stop_after:
            break
        job = search.ask()
        if isinstance(job, Done):
            break
        assert not isinstance(job, Wait)
        outcome = perform(job_to_json(job), lambda r, v, j=job: search.report(j, r, v))
        search.tell(job, Outcome.from_json(outcome))
    events += search.drain()
    return [Event.from_json(json.loads(json.dumps(e.to_json()))) for e in events]


MEASURED = {"objectives": (BUILTIN["accuracy"], BUILTIN["latency_ms"])}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        MEASURED,
        {"promotion": "none"},
        {"promotion": "hyperband"},
        {**MEASURED, "trials": 40},
    ],
)
def test_every_trial_ends_and_the_front_is_not_dominated(changes: dict[str, Any]) -> None:
    spec = toy_spec(**changes)
    search = new_search(spec)
    drive(search, ToyPerform(spec))
    trials = list(search.trials.values())
    assert [t.number for t in trials] == list(range(spec.trials))
    assert not [t for t in trials if t.state == "running"]
    front = front_of(spec, trials)
    assert front.members
    assert sum(front.trials.values()) == spec.trials


PROBED = {
    "objectives": (BUILTIN["accuracy"], BUILTIN["energy_mj"]),
    "constraints": (Constraint.parse("peak_memory_mb<=0.5"),),
    "probes": ("peak_memory_mb", "energy_mj"),
}


def test_what_is_measured_besides_time_is_known_before_training_and_again_of_the_front() -> None:
    spec = toy_spec(**PROBED)
    search, perform = new_search(spec), ToyPerform(spec)
    events = drive(search, perform)
    measured: dict[str, set[int]] = {"latency_ms": set(), "peak_memory_mb": set()}
    for job in perform.done:
        if job["kind"] == "measure" and job["form"] == "untrained":
            measured.setdefault(job["objective"], set()).update(job["trials"])
        if job["kind"] == "train":
            assert all(job["trial"] in known for known in measured.values())
    assert set(measured) == {"latency_ms", "peak_memory_mb", "energy_mj"}
    # what breaks the limit is not measured further, and never trained
    infeasible = {t.number for t in search.trials.values() if t.state == "infeasible"}
    assert infeasible and not infeasible & measured["energy_mj"]
    front = front_of(spec, list(search.trials.values()))
    assert front.members
    for member in front.members:
        energy = member.measurements["energy_mj"]
        assert (energy.objective, energy.basis, energy.unit) == ("energy_mj", "trained file", "mJ")
    last = [j["objective"] for j in perform.done if j["kind"] == "measure"][-3:]
    assert last == ["latency_ms", "peak_memory_mb", "energy_mj"]
    again = new_search(spec, events)
    assert again.trials == search.trials


def test_memory_that_is_not_measured_is_the_counted_one() -> None:
    memory = BUILTIN["peak_memory_mb"]
    spec = toy_spec(objectives=(BUILTIN["accuracy"], memory))

    class Counting(ToyPerform):
        def build(self, job: Any, report: Any) -> dict[str, Any]:
            found = super().build(job, report)
            return {**found, "costs": {**found["costs"], "peak_memory_mb": 3.0}}

    perform = Counting(spec)
    search = new_search(spec)
    drive(search, perform)
    assert not [j for j in perform.done if j["kind"] == "measure"]
    members = front_of(spec, list(search.trials.values())).members
    assert {m.measurements["peak_memory_mb"].basis for m in members} == {"counted"}


def test_a_killed_search_goes_on_as_if_nothing_had_happened() -> None:
    spec = toy_spec(**MEASURED)
    whole = drive(new_search(spec), ToyPerform(spec))
    for cut in range(0, 40, 7):
        before = drive(new_search(spec), ToyPerform(spec), stop_after=cut)
        after = drive(new_search(spec, before), ToyPerform(spec))
        assert before + after == whole


def test_the_fronts_of_other_studies_are_tried_after_the_presets() -> None:
    other = Start({"kernel": 3, "depth": 2, "width": 16, "dilation": 2}, "from old trial 4")
    spec = toy_spec(starts=(other,), trials=3)
    search = new_search(spec)
    drive(search, ToyPerform(spec))
    first = search.trials[0]
    assert (dict(first.architecture.choices), first.origin) == (other.choices, other.origin)
    assert [search.trials[n].origin for n in (1, 2)] == ["strategy", "strategy"]
    assert StudySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_what_other_studies_brought_comes_first_and_only_once() -> None:
    spec = toy_spec(trials=2)
    known = Event("known", -1, {"study": "old", "trial": 4})
    search = Search(spec, toy_space(), Sampling(3), earlier=[known])
    events = drive(search, ToyPerform(spec))
    assert events[0] == known and search.history.events[0] == known
    again = Search(spec, toy_space(), Sampling(3), events, earlier=[known])
    assert again.history.events == events and again.trials == search.trials
    walked = new_search(spec)
    for event in events:
        assert walked.retrace(event) == event


def test_killed_between_two_rungs_it_trains_from_the_last_one() -> None:
    spec = toy_spec(trials=1, promotion="none")
    search = new_search(spec)
    build = search.ask()
    perform = ToyPerform(spec)
    search.tell(build, Outcome.from_json(perform(job_to_json(build), None)))
    train = search.ask()
    assert isinstance(train, Train) and train.from_rung == -1
    values = {"epochs": 1, "score": 60.0, "n": 300, "checkpoint": CHECKPOINT}
    assert search.report(train, 0, values) == "continue"
    again = new_search(spec, search.drain()).ask()
    assert isinstance(again, Train)
    assert (again.from_rung, again.checkpoint) == (0, values["checkpoint"])


def test_a_resumed_trial_goes_on_from_the_rung_at_which_it_was_stopped() -> None:
    spec = toy_spec(trials=20)
    search, perform = Search(spec, toy_space(), Resuming(spec.seed)), ToyPerform(spec)
    events = drive(search, perform)
    resumed = [e.trial for e in events if e.kind == "resumed"]
    assert resumed and len(set(resumed)) == len(resumed) and len(search.trials) == 20
    at = judged(spec.fidelity.rungs, spec.fidelity.reduction)
    for number in resumed:
        trial = search.trials[number]
        assert trial.state == "complete" and trial.values["accuracy"] == trial.trained[0].score
        assert [r.rung for r in trial.rungs if r.repeat == 0] == list(
            range(len(spec.fidelity.rungs))
        )
        ended = [e.payload["state"] for e in events if e.kind == "told" and e.trial == number]
        assert ended == ["stopped", "complete"]
        first, then, *_ = [j for j in perform.done if j["kind"] == "train" and j["trial"] == number]
        assert (first["from_rung"], then["from_rung"]) == (-1, at)
        assert then["checkpoint"]
    stopped = [t for t in search.trials.values() if t.state == "stopped"]
    assert stopped and {t.rungs[-1].rung for t in stopped} == {at}
    states = front_of(spec, list(search.trials.values())).trials
    assert sum(states.values()) == 20


@pytest.mark.parametrize("cut", range(0, 70, 6))
def test_a_search_with_resumed_trials_goes_on_as_if_it_had_not_been_killed(cut: int) -> None:
    spec = toy_spec(**MEASURED, trials=20)

    def fresh(history: Sequence[Event] = ()) -> Search:
        return Search(spec, toy_space(), Resuming(spec.seed), history)

    whole = drive(fresh(), ToyPerform(spec))
    assert "resumed" in {e.kind for e in whole}
    before = drive(fresh(), ToyPerform(spec), stop_after=cut)
    assert before + drive(fresh(before), ToyPerform(spec)) == whole


def test_what_a_stopped_training_ends_with_is_no_result_of_the_resumed_one() -> None:
    """The strategy resumes a trial before the worker that was told to stop has answered."""
    spec = toy_spec(trials=30)
    search, perform = Search(spec, toy_space(), Resuming(spec.seed), width=2), ToyPerform(spec)
    answers, late = [], 0
    while True:
        job = search.ask()
        if isinstance(job, Done):
            break
        if isinstance(job, Wait):
            search.tell(*answers.pop(0))
            continue
        if isinstance(job, Train):
            assert job.trial not in [j.trial for j, _ in answers if isinstance(j, Train)]
        outcome = perform(job_to_json(job), lambda r, v, j=job: search.report(j, r, v))
        done = Outcome.from_json(outcome)
        if isinstance(job, Train) and not done.values:
            answers.append((job, done))
            late += 1
            continue
        search.tell(job, done)
    assert late and search.history.resumed
    assert not [t for t in search.trials.values() if t.state in ("running", "failed")]


@pytest.mark.parametrize("strategy", [Sampling, Resuming])
@settings(max_examples=25, deadline=None)
@given(order=st.integers(0, 2**31), width=st.integers(2, 6))
def test_retracing_a_parallel_search_contradicts_nothing(
    strategy: type[Sampling], order: int, width: int
) -> None:
    """Jobs end in any order; the recorded decisions follow from the recorded events."""
    spec = toy_spec(**MEASURED, trials=15)

    def fresh() -> Search:
        return Search(spec, toy_space(), strategy(spec.seed), width=width)

    search, perform, events = fresh(), ToyPerform(spec), []
    shuffled, under_way = random.Random(order), []
    while True:
        job = search.ask() if len(under_way) < width else Wait()
        if isinstance(job, Done):
            break
        if not isinstance(job, Wait):
            under_way.append(job)
            continue
        ending = under_way.pop(shuffled.randrange(len(under_way)))
        outcome = perform(job_to_json(ending), lambda r, v, j=ending: search.report(j, r, v))
        search.tell(ending, Outcome.from_json(outcome))
    events = search.drain()
    again = fresh()
    assert [again.retrace(e) for e in events] == events
    assert again.trials == search.trials


@pytest.mark.parametrize("promotion", ["none", "halving", "hyperband"])
def test_a_broken_static_constraint_is_recorded_and_never_trained(promotion: str) -> None:
    limits = (Constraint.parse("macs<=20000"),)
    spec = toy_spec(constraints=limits, promotion=promotion, trials=24)
    search, perform = new_search(spec), ToyPerform(spec)
    drive(search, perform)
    trained = {j["trial"] for j in perform.done if j["kind"] == "train"}
    broken = {t.number for t in search.trials.values() if t.costs["macs"] > 20000}
    assert broken and not trained & broken
    assert {t.state for t in search.trials.values() if t.number in broken} == {"infeasible"}


def test_a_latency_constraint_reads_the_quantile(latency_constraint: Constraint) -> None:
    spec = toy_spec(constraints=(latency_constraint, Constraint.parse("latency_ms.p99<=9")))
    search = new_search(spec)
    drive(search, ToyPerform(spec))
    for trial in search.trials.values():
        timed = trial.costs["macs"] / 1e5
        assert (trial.state == "infeasible") == (timed > 8 or 1.5 * timed > 9)


def test_a_prediction_breaks_a_limit_only_with_its_whole_interval() -> None:
    class Guessing(ToyPerform):
        def measure(self, job: Any, report: Any) -> dict[str, Any]:
            found = super().measure(job, report)
            for value in found["measurements"].values():
                value.update(source="predicted", basis="transfer", low=0.5 * value["value"])
            return found

    spec = toy_spec(constraints=(Constraint.parse("latency_ms<=1"),), trials=30)
    search = new_search(spec)
    drive(search, Guessing(spec))
    timed = {t.number: t.costs["macs"] / 1e5 for t in search.trials.values()}
    broken = {n for n, t in search.trials.items() if t.state == "infeasible"}
    assert broken == {n for n, value in timed.items() if 0.5 * value > 1}
    assert any(1 < value <= 2 for value in timed.values())


def test_a_failing_trial_is_tried_twice_and_recorded() -> None:
    spec = toy_spec(**MEASURED)
    search, perform = new_search(spec), ToyPerform(spec, fail=frozenset({2}))
    drive(search, perform)
    assert search.trials[2].state == "failed" and search.trials[2].error == "it broke"
    assert sum(j["kind"] == "build" and j["trial"] == 2 for j in perform.done) == 2
    assert search.trials[3].state != "running"


def test_equal_networks_are_trained_once() -> None:
    spec = toy_spec(trials=150, promotion="none", confirm=0.0)
    search, perform = new_search(spec), ToyPerform(spec)
    drive(search, perform)
    trained = [j["trial"] for j in perform.done if j["kind"] == "train"]
    keys = [search.trials[n].key for n in trained]
    assert len(keys) == len(set(keys)) < 150
    twin = next(t for t in search.trials.values() if t.reused)
    first = next(t for t in search.trials.values() if t.key == twin.key)
    assert (twin.state, twin.values, twin.trained) == (first.state, first.values, first.trained)


class Same:
    """A strategy that knows one network."""

    def propose(self, history: History, count: int) -> list[Proposal]:
        return [Proposal(toy_space().architecture({"kernel": 5, "depth": 2, "width": 16}))] * count


def test_a_training_whose_trial_its_twin_ended_is_stopped() -> None:
    spec = toy_spec(trials=2)
    search, perform = Search(spec, toy_space(), Same(), (), 2), ToyPerform(spec)
    trainings: list[Train] = []
    while len(trainings) < 2:
        job = search.ask()
        if isinstance(job, Train):
            trainings.append(job)
        else:
            assert not isinstance(job, Wait | Done)
            search.tell(job, Outcome.from_json(perform(job_to_json(job), lambda r, v: "continue")))
    mine, other = sorted(trainings, key=lambda job: job.trial)
    for _ in range(2):
        search.tell(mine, Outcome(error="it broke"))
    assert {t.state for t in search.trials.values()} == {"failed"}
    events = len(search.history.events)
    values = {"epochs": 3, "score": 70.0, "n": 300, "checkpoint": CHECKPOINT}
    assert search.report(other, 1, values) == "stop"
    search.tell(other, Outcome())
    assert len(search.history.events) == events
    assert isinstance(search.ask(), Done)


def test_confirmation_times_the_trained_files_and_repeats_undecided_points() -> None:
    spec = toy_spec(**MEASURED, trials=30, promotion="none")
    search, perform = new_search(spec), ToyPerform(spec)
    drive(search, perform)
    front = front_of(spec, list(search.trials.values()))
    assert {m.measurements["latency_ms"].basis for m in front.members} == {"trained file"}
    repeats = [j for j in perform.done if j["kind"] == "train" and j["repeat"] > 0]
    assert 2 <= len(repeats) <= round(spec.confirm * spec.trials)
    assert {j["seed"] for j in repeats} <= {spec.seed + j["repeat"] for j in repeats}
    finals = [j for j in perform.done if j["kind"] == "measure" and j["form"] == "trained"]
    assert finals and all(
        job_from_json(j)
        == Measure(
            **{
                **j,
                "trials": tuple(j["trials"]),
                "files": tuple(j["files"]),
                "builds": tuple(j["builds"]),
                "workload": job_from_json(j).workload,
                "sources": (),
            }
        )
        for j in finals
    )


def test_a_trial_that_dominates_all_earlier_ones_is_never_stopped() -> None:
    spec = toy_spec(trials=60)
    search = new_search(spec)
    drive(search, ToyPerform(spec))
    for trial in search.trials.values():
        if trial.state != "stopped":
            continue
        last = trial.rungs[-1]
        peers = [t for t in search.trials.values() if t.number < trial.number and not t.reused]
        at = [(r.score, t.costs["macs"]) for t in peers for r in t.rungs
              if r.rung == last.rung and r.repeat == 0]  # fmt: skip
        assert any(s >= last.score or m <= trial.costs["macs"] for s, m in at)


def test_closing_lets_nothing_new_begin() -> None:
    spec = toy_spec(trials=50)
    search, perform = new_search(spec), ToyPerform(spec)
    drive(search, perform, stop_after=10)
    begun = len(search.trials)
    search.closing = True
    drive(search, perform)
    assert len(search.trials) == begun
    assert not [t for t in search.trials.values() if t.state == "running"]


class TestTwoDevices:
    """A constraint names a second device: candidates are timed on both before they are trained."""

    SPEC = toy_spec(**MEASURED, constraints=(Constraint.parse("latency_ms@board<=1.2"),))

    def test_each_trial_is_timed_on_both_before_training(self) -> None:
        perform = ToyPerform(self.SPEC)
        search = new_search(self.SPEC)
        drive(search, perform)
        timed: dict[int, list[str]] = {}
        for job in perform.done:
            if job["kind"] == "measure" and job["form"] == "untrained":
                for number in job["trials"]:
                    timed.setdefault(number, []).append(job["device"])
            if job["kind"] == "train":
                assert timed[job["trial"]] == ["cpu", "board"]

    def test_what_breaks_it_there_is_never_trained(self) -> None:
        search = new_search(self.SPEC)
        drive(search, ToyPerform(self.SPEC))
        broken = [t for t in search.trials.values() if t.state == "infeasible"]
        assert broken and not any(t.trained or t.rungs for t in broken)
        for trial in search.trials.values():
            there = trial.measurements["latency_ms@board:b1/untrained"].value
            assert (there > 1.2) == (trial.state == "infeasible")

    def test_a_study_that_is_limited_only_elsewhere_is_timed_only_there(self) -> None:
        spec = toy_spec(constraints=(Constraint.parse("latency_ms@board<=1.2"),))
        assert (spec.devices, toy_spec().devices) == (("board",), ())
        perform = ToyPerform(spec)
        drive(new_search(spec), perform)
        assert {j["device"] for j in perform.done if j["kind"] == "measure"} == {"board"}


class TestWorkloads:
    """A constraint names workloads: each is timed before training, and again as a trained file."""

    LIMIT = Constraint.parse("latency_ms.p99:b1-4<=3.5")
    SPEC = toy_spec(**MEASURED, trials=16, constraints=(LIMIT,))

    class Loaded(ToyPerform):
        """Takes as many times as long as there are examples in a call."""

        def measure(self, job: Any, report: Any) -> dict[str, Any]:
            found = super().measure(job, report)
            for value in found["measurements"].values():
                batch = job["workload"]["batch"]
                value.update({k: batch * value[k] for k in ("value", "low", "high")})
                value["record"] = {"p99_ms": 1.5 * value["value"], "batch": batch}
            return found

    def searched(self) -> tuple[Search, ToyPerform]:
        search, perform = new_search(self.SPEC), self.Loaded(self.SPEC)
        drive(search, perform)
        return search, perform

    def test_what_breaks_it_under_any_of_them_is_not_trained(self) -> None:
        search, perform = self.searched()
        trained = {j["trial"] for j in perform.done if j["kind"] == "train"}
        worst = {n: 4 * 1.5 * t.costs["macs"] / 1e5 for n, t in search.trials.items()}
        broken = {n for n, t in search.trials.items() if t.state == "infeasible"}
        assert broken == {n for n, value in worst.items() if value > 3.5} and broken != set(worst)
        assert trained and not trained & broken
        for number in trained:
            names = set(search.trials[number].measurements)
            assert {f"latency_ms@cpu:{w}/untrained" for w in ("b1", "b2", "b4")} <= names
            assert search.trials[number].violations[str(self.LIMIT)] <= 0

    def test_a_limit_that_is_broken_already_is_timed_no_further(self) -> None:
        search, _ = self.searched()
        for trial in search.trials.values():
            first = 1.5 * trial.costs["macs"] / 1e5
            names = {n for n in trial.measurements if n.endswith("untrained")}
            if first > 3.5 and not trial.reused:
                assert names == {"latency_ms@cpu:b1/untrained"}

    def test_the_front_has_them_of_the_trained_files_and_says_what_each_point_keeps(self) -> None:
        search, _ = self.searched()
        front = front_of(self.SPEC, list(search.trials.values()))
        assert front.members
        for member in front.members:
            trial = search.trials[member.trial]
            worst = trial.measurements["latency_ms@cpu:b4/trained"]
            kept = {text: number.value for text, number in member.limits.items()}
            assert kept == {str(self.LIMIT): worst.record["p99_ms"]}
            told = member.to_json()["limits"]
            assert told == {text: number.to_json() for text, number in member.limits.items()}

    def test_another_side_is_timed_of_files_made_for_it(self) -> None:
        spec = toy_spec(trials=3, promotion="none",
                        constraints=(Constraint.parse("latency_ms:r64<=900"),))  # fmt: skip
        perform = ToyPerform(spec)
        drive(new_search(spec), perform)
        jobs = [job_from_json(j) for j in perform.done if j["kind"] == "measure"]
        assert {j.workload.name for j in jobs} == {"b1r64"}  # nothing asks for the usual one
        for job in jobs:
            weights = {source.weights for source in job.sources}
            assert len(job.sources) == len(job.trials)
            assert weights == ({None} if job.form == "untrained" else {CHECKPOINT})


def test_numbers_of_another_device_change_nothing_in_a_search() -> None:
    spec = toy_spec(**MEASURED, trials=12)
    events = drive(new_search(spec), ToyPerform(spec), stop_after=14)
    trials = {e.trial for e in events if "measurement" in e.payload}
    found = next(e.payload for e in events if "measurement" in e.payload)
    there = {**found, "job": "retarget", "device": "board", "processes": 1, "bench": None}
    failed = {"job": "retarget", "device": "board", "error": "it hangs"}
    elsewhere = [Event("reported", n, there) for n in sorted(trials)]
    elsewhere.append(Event("reported", 0, failed))
    plain, told = new_search(spec, events), new_search(spec, [*events, *elsewhere])
    assert drive(plain, ToyPerform(spec)) == drive(told, ToyPerform(spec))
    assert front_of(spec, list(plain.trials.values())) == front_of(spec, list(told.trials.values()))


def sparse_space() -> SearchSpace:
    target = Target("onnxruntime", (), ("accuracy", "macs"))
    patterns = Choice("sparsity.pattern", ["dense", "2:4"])
    toy = toy_space()
    presets = {"halved": {"sparsity.pattern": "2:4", "kernel": 3}}
    space = replace(toy, decisions=[*toy.decisions, patterns], presets=presets)
    return space.at(toy_spec().task, target)


class Excluding:
    """Proposes what excludes itself, in turn with what does not; every other time by its name."""

    def propose(self, history: History, count: int) -> list[Proposal]:
        number, space = len(history.proposals), sparse_space()
        choices = {"kernel": 5, "depth": 1 + number % 6, "width": 16}
        if number % 2 == 0:
            return [Proposal(space.architecture({**choices, "sparsity.pattern": "dense"}))]
        bad = {**choices, "sparsity.pattern": "2:4"}
        if number % 4 == 1:
            return [Proposal(Architecture("toy", bad))]
        return [Proposal(space.architecture(bad))]


def test_what_excludes_itself_is_a_failed_trial_with_its_reason_and_the_search_goes_on() -> None:
    bad = {"kernel": 7, "depth": 2, "width": 16, "sparsity.pattern": "2:4"}
    spec = toy_spec(presets=("halved",), starts=(Start(bad, "from other trial 4"),), trials=8)
    search = Search(spec, sparse_space(), Excluding(), width=2)
    perform = ToyPerform(spec)
    events = drive(search, perform)
    failed = {n: t for n, t in enumerate(search.trials.values()) if t.state == "failed"}
    assert list(failed) == [0, 1, 3, 5, 7]
    assert [t.origin for t in failed.values()] == [
        "preset",
        "from other trial 4",
        *["strategy"] * 3,
    ]
    for trial in failed.values():
        assert trial.architecture.choices["sparsity.pattern"] == "2:4"
        assert trial.error and trial.error.startswith(
            "sparsity.pattern=2:4 and --runtime onnxruntime exclude each other\n"
        )
    built = {job["trial"] for job in perform.done if job["kind"] == "build"}
    assert built == {2, 4, 6} and search.tally["complete"] and not search.tally["running"]
    again = Search(spec, sparse_space(), Excluding(), width=2)
    assert [again.retrace(event) for event in events] == events
