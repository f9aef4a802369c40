"""What every study database must do, whatever keeps it. A new one is one more entry of BACKENDS."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import generators
import pytest
from conftest import toy_space, toy_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import fresh

import nas
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.front import Front, Member
from nas.core.measurement import Measurement
from nas.core.study import StudySpec
from nas.core.trial import Evaluation, Event, Timing, Trial
from nas.store.store import Store

BACKENDS: dict[str, Callable[[Path, pytest.FixtureRequest], str]] = {
    "sqlite": lambda folder, request: f"sqlite:///{folder}/nas.db",
    "postgresql": lambda folder, request: fresh(request.getfixturevalue("postgres_url")),
}
ANY = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=sorted(BACKENDS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return BACKENDS[request.param](tmp_path, request)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened:
        yield opened


def begin(store: Store, spec: StudySpec | None = None) -> int:
    spec = spec or toy_spec()
    store.create(spec)
    return store.claim(spec.name)


def a_name() -> str:
    return f"s{uuid.uuid4().hex}"  # unlike random, no test runner seeds it


def trial(number: int, **fields: Any) -> Trial:
    point = toy_space().architecture({"kernel": 5, "depth": 2, "width": 16 * 2 ** (number % 4)})
    return Trial(number, point, **fields)


def proposed(number: int) -> Event:
    return Event("proposed", number, {"notes": {}, "origin": "strategy"})


LATENCY = Measurement(
    "latency_ms", 1.5, "ms", 1.4, 1.7, 0.05, 40, "measured", "trained file", {"samples": [1.5, 1.6]}
)


class TestWhatGoesInComesOut:
    @ANY
    @given(st.lists(generators.trials, max_size=4, unique_by=lambda t: t.number))
    def test_trials(self, store: Store, trials: list[Trial]) -> None:
        name = a_name()
        epoch = begin(store, toy_spec(name=name))
        store.commit(name, epoch, [], trials)
        stored = store.trials(name)
        assert stored == sorted(trials, key=lambda t: t.number)
        for one, other in zip(stored, sorted(trials, key=lambda t: t.number), strict=True):
            assert list(one.values) == list(other.values)  # a strategy may read them in order
            assert {n: m.record for n, m in one.measurements.items()} == {
                n: m.record for n, m in other.measurements.items()
            }

    @ANY
    @given(st.lists(st.lists(generators.events, max_size=3), max_size=4))
    def test_events_in_order(self, store: Store, batches: list[list[Event]]) -> None:
        name = a_name()
        epoch = begin(store, toy_spec(name=name))
        for batch in batches:
            store.commit(name, epoch, batch)
        assert store.events(name) == [event for batch in batches for event in batch]

    @ANY
    @given(generators.specs)
    def test_specs(self, store: Store, spec: StudySpec) -> None:
        spec = replace(spec, name=a_name())
        store.create(spec)
        assert store.spec(spec.name) == spec

    @ANY
    @given(generators.evaluations)
    def test_evaluations(self, store: Store, evaluation: Evaluation) -> None:
        name = a_name()
        epoch = begin(store, toy_spec(name=name))
        store.commit(name, epoch, evaluations=[evaluation])
        assert store.evaluation(*list(vars(evaluation).values())[:6]) == evaluation

    @ANY
    @given(generators.timings)
    def test_timings(self, store: Store, timing: Timing) -> None:
        name = a_name()
        epoch = begin(store, toy_spec(name=name))
        store.commit(name, epoch, timings=[timing])
        stored = store.timing(*list(vars(timing).values())[:6])
        assert stored == timing
        assert stored.measurement.record == timing.measurement.record

    def test_numbers_keep_their_nature(self, store: Store) -> None:
        epoch = begin(store)
        choices = {"a": 1, "b": 1.0, "c": True, "d": "1"}
        store.commit("toy", epoch, [], [Trial(0, Architecture("x", choices))])
        found = store.trials("toy")[0].architecture.choices
        assert {n: type(v) for n, v in found.items()} == {n: type(v) for n, v in choices.items()}

    def test_a_front_with_its_members(self, store: Store) -> None:
        epoch = begin(store)
        trials = [trial(0), trial(1)]
        store.commit("toy", epoch, [], trials)
        members = tuple(
            Member(t.number, t.key, dict(t.architecture.choices), 0.25 + 0.5 * t.number,
                   {"latency_ms": LATENCY})
            for t in reversed(trials)
        )  # fmt: skip
        front = Front("toy", "toy", "cpu", toy_spec().objectives, members,
                      {"complete": 2}, 0.1 + 0.2, (101.0, -3.5))  # fmt: skip
        store.save_front("toy", epoch, front)
        assert store.front("toy") == front
        assert store.front("toy").to_json() == front.to_json()

        smaller = replace(front, members=members[:1], hypervolume=0.0)
        elsewhere = replace(front, device="gpu", members=())
        store.save_front("toy", epoch, smaller)
        store.save_front("toy", epoch, elsewhere)
        assert store.front("toy") == smaller
        assert store.front("toy", "gpu") == elsewhere

    def test_each_event_with_its_moment(self, store: Store) -> None:
        epoch = begin(store)
        for number in range(3):
            store.commit("toy", epoch, [proposed(number)])
        moments = store.moments("toy")
        assert len(moments) == 3 and moments == sorted(moments)
        assert all(moment.utcoffset() is not None for moment in moments)

    def test_nothing_where_nothing_was_stored(self, store: Store) -> None:
        begin(store)
        assert store.front("toy") is None
        assert store.events("toy") == store.trials("toy") == []
        assert store.evaluation("k", "b", "r", "d", 1, 0) is None
        assert store.timing("b", "f", "w", "h", "r", "p") is None

    def test_an_error_with_an_undecodable_file_name_is_kept_readable(self, store: Store) -> None:
        epoch = begin(store)
        store.commit("toy", epoch, [], [trial(0, error="caf\udce9.png\x00 is no image")])
        assert store.trials("toy")[0].error == "caf\\udce9.png\\x00 is no image"


class TestCommit:
    def test_the_newest_state_of_a_trial_replaces_the_older(self, store: Store) -> None:
        epoch = begin(store)
        store.commit("toy", epoch, [proposed(0)], [trial(0)])
        done = trial(0, state="complete", values={"accuracy": 91.5}, build="b1")
        store.commit("toy", epoch, [Event("told", 0, {})], [done])
        assert store.trials("toy") == [done]

    def test_a_front_is_read_from_its_contenders_and_one_trial_by_its_number(
        self, store: Store
    ) -> None:
        epoch = begin(store)
        states = ("stopped", "complete", "complete", "failed", "complete")
        trials = [trial(n, state=state) for n, state in enumerate(states)]
        store.commit("toy", epoch, [], trials[:3])
        store.commit("toy", epoch, [], trials[3:], beaten=[2])
        read = store.trials("toy", contenders=True)
        assert read == [trials[1], trials[4]]
        assert store.trials("toy", number=0) == trials[:1]
        assert store.trials("toy", number=9) == []

    def test_the_newest_shared_result_replaces_the_older(self, store: Store) -> None:
        epoch = begin(store)
        one = Evaluation("k", "b", "r", "d", 3, 0, {"rung": {"score": 1.0}})
        two = replace(one, values={"rung": {"score": 1.0}, "final": {"file": "f"}})
        timing = Timing("b", "trained", "b1", "h", "ort", "p", "cpu", LATENCY)
        slower = replace(timing, measurement=replace(LATENCY, value=1.6))
        store.commit("toy", epoch, evaluations=[one], timings=[timing])
        store.commit("toy", epoch, evaluations=[two], timings=[slower])
        assert store.evaluation("k", "b", "r", "d", 3, 0) == two
        assert store.timing("b", "trained", "b1", "h", "ort", "p") == slower

    def test_is_whole_or_not_at_all(self, store: Store) -> None:
        epoch = begin(store)
        with pytest.raises(ValueError, match="JSON"):
            store.commit("toy", epoch, [proposed(0)], [trial(0, values={"x": float("nan")})])
        assert store.events("toy") == store.trials("toy") == []
        store.commit("toy", epoch, [proposed(0)], [trial(0)])
        assert len(store.events("toy")) == 1

    def test_studies_share_architectures_and_nothing_else(self, store: Store) -> None:
        one, two = begin(store), begin(store, toy_spec(name="other"))
        store.commit("toy", one, [proposed(0)], [trial(0)])
        store.commit("other", two, [proposed(0)], [trial(0, state="failed", error="it broke")])
        assert store.trials("toy")[0].error is None
        assert store.trials("other")[0].key == store.trials("toy")[0].key
        assert len(store.events("other")) == 1

    def test_from_several_threads(self, store: Store) -> None:
        epoch = begin(store)
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(lambda n: store.commit("toy", epoch, [proposed(n)], [trial(n)]), range(40))
            )
        assert [t.number for t in store.trials("toy")] == list(range(40))
        assert sorted(e.trial for e in store.events("toy")) == list(range(40))


class TestStudies:
    def test_list(self, store: Store) -> None:
        epoch = begin(store)
        store.create(toy_spec(name="idle", trials=3))
        store.commit("toy", epoch, [], [trial(0), trial(1, state="failed"), trial(2)])
        newest, idle = store.studies()
        assert (newest.name, newest.trials, newest.objectives) == ("toy", 12, ("accuracy", "macs"))
        assert newest.counts == {
            "complete": 0, "stopped": 0, "infeasible": 0, "failed": 1, "running": 2,
        }  # fmt: skip
        assert (newest.running, idle.running, idle.trials) == (True, False, 3)
        assert newest.updated >= newest.created and newest.created.utcoffset() is not None
        assert json.loads(json.dumps(newest.to_json()))["data"] == "digits"

    def test_a_name_is_taken_once(self, store: Store) -> None:
        store.create(toy_spec())
        with pytest.raises(NasError, match="there already"):
            store.create(toy_spec(trials=99))
        assert store.spec("toy").trials == 12

    def test_an_unknown_name_gets_the_nearest(self, store: Store) -> None:
        store.create(toy_spec())
        for question in (store.spec, store.events, store.trials, store.front, store.claim):
            with pytest.raises(NasError, match="did you mean 'toy'"):
                question("tyo")

    def test_more_trials(self, store: Store) -> None:
        epoch = begin(store)
        store.revise(toy_spec(trials=40), epoch)
        assert store.spec("toy").trials == store.studies()[0].trials == 40
        with pytest.raises(NasError, match="no longer"):
            store.revise(toy_spec(trials=50), epoch - 1)


class TestOneWriter:
    def test_a_second_claim_is_refused_and_names_the_first(self, url: str, store: Store) -> None:
        epoch = begin(store)
        with Store(url) as second:
            with pytest.raises(NasError, match=rf"process {os.getpid()} on [\s\S]*--take-over"):
                second.claim("toy")
            later = second.claim("toy", take_over=True)
            second.commit("toy", later, [proposed(0)], [trial(0)])
        with pytest.raises(NasError, match="took it over"):
            store.commit("toy", epoch, [proposed(1)], [trial(1)])
        with pytest.raises(NasError, match="took it over"):
            store.save_front("toy", epoch, Front("toy", "toy", "cpu", (), (), {}, 0.0, ()))
        assert [e.trial for e in store.events("toy")] == [0]

    def test_a_released_study_is_free_and_its_last_writer_done(self, store: Store) -> None:
        epoch = begin(store)
        store.release("toy", epoch)
        with pytest.raises(NasError, match="no longer written"):
            store.commit("toy", epoch, [proposed(0)], [trial(0)])
        assert store.studies()[0].running is False
        assert store.claim("toy") > epoch

    def test_releasing_a_lost_claim_leaves_the_new_one(self, store: Store) -> None:
        first = begin(store)
        second = store.claim("toy", take_over=True)
        store.release("toy", first)
        store.commit("toy", second, [proposed(0)], [trial(0)])
        assert len(store.events("toy")) == 1


# -- with real processes

WRITER = """
import sys
from nas.core.architecture import Architecture
from nas.core.trial import Event, Trial
from nas.store.store import Store
url, study, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Store(url) as store:
    epoch = store.claim(study)
    ended = sum(t.state == "complete" for t in store.trials(study))
    known = len(store.trials(study))
    for n in range(ended, ended + count):
        point = Architecture("toy", {"n": n})
        if n >= known:  # else a killed writer proposed it
            store.commit(study, epoch, [Event("proposed", n, {})], [Trial(n, point)])
        told = Trial(n, point, state="complete", values={"accuracy": float(n)})
        store.commit(study, epoch, [Event("told", n, dict(told.values))], [told])
        print(n, flush=True)
    store.release(study, epoch)
"""

OPENER = """
import sys
from nas.store.store import Store
with Store(sys.argv[1]) as store:
    store.studies()
"""

STUCK = """
import sys
from nas.core.architecture import Architecture
from nas.core.trial import Event, Trial
from nas.store.store import Store

class Trap(list):
    def __iter__(self):
        print("inside", flush=True)
        sys.stdin.read()
        return super().__iter__()

with Store(sys.argv[1]) as store:
    epoch = store.claim("toy")
    point = Architecture("toy", {"n": 0})
    store.commit("toy", epoch, [Event("proposed", 0, {})], [Trial(0, point)])
    store.commit("toy", epoch, [Event("told", 0, {})], Trap([Trial(0, point, state="complete")]))
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    home = str(Path(nas.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": home},
    )  # fmt: skip


def ended(processes: list[subprocess.Popen[str]]) -> None:
    """Waits for all of them, whatever became of the first; none may have failed."""
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * len(processes)


def consistent(store: Store, study: str = "toy") -> int:
    """Checks that trials and events say the same; the number of trials that were told."""
    trials, events = store.trials(study), store.events(study)
    told = {e.trial: e.payload for e in events if e.kind == "told"}
    proposals = [e.trial for e in events if e.kind == "proposed"]
    assert proposals[: len(trials)] == list(range(len(trials)))
    for one in trials:
        if one.state == "complete":
            assert told[one.number] == one.values
    return len(told)


@pytest.mark.slow
class TestProcesses:
    def test_a_reader_sees_whole_decisions_while_another_process_writes(self, url: str) -> None:
        with Store(url) as store:
            store.create(toy_spec())
        writer = start(WRITER, url, "toy", "150")
        seen = []
        with writer, Store(url, read_only=True) as reader:
            while writer.poll() is None:
                seen.append(consistent(reader))
            seen.append(consistent(reader))
        assert writer.returncode == 0
        assert seen == sorted(seen) and seen[-1] == 150
        assert len(set(seen)) > 3

    def test_many_processes_make_one_database(self, url: str) -> None:
        ended([start(OPENER, url) for _ in range(5)])
        with Store(url, read_only=True) as store:
            assert store.studies() == []

    def test_two_processes_write_two_studies(self, url: str) -> None:
        with Store(url) as store:
            store.create(toy_spec())
            store.create(toy_spec(name="other"))
            ended([start(WRITER, url, study, "100") for study in ("toy", "other")])
            assert consistent(store, "toy") == consistent(store, "other") == 100

    def test_killed_inside_a_transaction(self, url: str) -> None:
        with Store(url) as store:
            store.create(toy_spec())
        with start(STUCK, url) as writer:
            assert writer.stdout.readline() == "inside\n"
            with Store(url, read_only=True) as reader:
                assert [e.kind for e in reader.events("toy")] == ["proposed"]
            writer.kill()
        with Store(url, read_only=True) as reader:
            assert [e.kind for e in reader.events("toy")] == ["proposed"]
        with Store(url) as store:
            epoch = store.claim("toy")
            store.commit("toy", epoch, [proposed(1)], [trial(1)])
            assert [e.trial for e in store.events("toy")] == [0, 1]

    def test_killed_at_random_moments(self, url: str) -> None:
        dice, told = random.Random(5), 0
        with Store(url) as store:
            store.create(toy_spec())
        for _ in range(5):
            with start(WRITER, url, "toy", "100000") as writer:
                last = -1
                for _ in range(dice.randint(1, 60)):
                    last = int(writer.stdout.readline())
                writer.kill()
                last = int((writer.stdout.read().split() or [last])[-1])
            with Store(url, read_only=True) as reader:
                assert consistent(reader) >= last + 1 > told
                told = consistent(reader)
                # the killed one's proposal without an end is there as well
                assert len(reader.trials("toy")) - told in (0, 1)
                assert reader.studies()[0].running is False

    def test_a_study_being_written_is_refused_and_a_dead_claim_passes_over(self, url: str) -> None:
        with Store(url) as store:
            store.create(toy_spec())
            with start(WRITER, url, "toy", "100000") as writer:
                writer.stdout.readline()
                assert store.studies()[0].running is True
                with pytest.raises(NasError, match=f"process {writer.pid} "):
                    store.claim("toy")
                writer.kill()
            assert store.studies()[0].running is False
            epoch = store.claim("toy")
            store.commit("toy", epoch)
