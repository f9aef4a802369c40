from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKPOINT, ToyPerform, toy_space, toy_spec
from test_engine import MEASURED, Resuming, Sampling

from nas.core.errors import NasError
from nas.core.front import front_of
from nas.core.objective import BUILTIN
from nas.core.study import StudySpec
from nas.engine import Search
from nas.runners.inline import Inline
from nas.session import Bench, Session, Snapshot
from nas.store.artifacts import Artifacts
from nas.store.store import Store

BENCH = Bench("host", "runtime 1", "protocol 1")


class Interrupt(Exception):
    """Stands for a kill: nothing after it runs."""


class Dying(ToyPerform):
    """Dies in the middle of its n-th job, after the rungs before it were reported."""

    def __init__(self, spec: StudySpec, at: int) -> None:
        super().__init__(spec)
        self.at = at

    def __call__(self, job: Any, report: Any) -> dict[str, Any]:
        if len(self.done) == self.at:
            if job["kind"] == "train":
                super().__call__(job, report)
            raise Interrupt
        return super().__call__(job, report)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """A folder in which the toy's checkpoints and networks are found."""
    folder = Artifacts(tmp_path / "artifacts")
    folder.folder.mkdir()
    for name in ("0" * 64 + ".onnx", CHECKPOINT, "2" * 64 + ".onnx"):
        folder.path(name).touch()
    return folder


def run(
    url: str, spec: StudySpec, artifacts: Artifacts, perform: ToyPerform,
    strategy: type[Sampling] = Sampling, **given: Any,
) -> None:  # fmt: skip
    with Store(url) as store:
        if spec.name not in {r.name for r in store.studies()}:
            store.create(spec)
        epoch = store.claim(spec.name)
        try:
            history = store.events(spec.name)
            search = Search(spec, toy_space(), strategy(spec.seed), history)
            session = Session(search, store, epoch, artifacts, {"cpu": BENCH}, **given)
            Inline(perform).run(session)
        finally:
            store.release(spec.name, epoch)


def recorded(url: str, spec: StudySpec) -> tuple[Any, Any]:
    with Store(url, read_only=True) as store:
        return store.trials(spec.name), store.front(spec.name)


def test_two_runs_are_identical_and_the_stored_front_is_what_the_trials_imply(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    spec = toy_spec(**MEASURED, trials=20)
    urls = [f"sqlite:///{tmp_path}/{n}.db" for n in "ab"]
    for url in urls:
        run(url, spec, artifacts, ToyPerform(spec))
    one, other = (recorded(url, spec) for url in urls)
    assert one == other
    front = replace(front_of(spec, one[0]), others=())  # who may belong too is not stored
    assert one[1].to_json() == front.to_json()


@pytest.mark.parametrize("at", [0, 1, 2, 5, 9, 17, 23, 31])
def test_a_killed_study_resumes_to_the_same_trials_and_front(
    tmp_path: Path, artifacts: Artifacts, at: int
) -> None:
    spec = toy_spec(**MEASURED, trials=14)
    whole, cut = (f"sqlite:///{tmp_path}/{n}.db" for n in ("whole", "cut"))
    run(whole, spec, artifacts, ToyPerform(spec))
    with pytest.raises(Interrupt):
        run(cut, spec, artifacts, Dying(spec, at))
    run(cut, spec, artifacts, ToyPerform(spec))
    assert recorded(cut, spec) == recorded(whole, spec)


@pytest.mark.parametrize("at", range(30, 62, 3))
def test_a_killed_study_with_resumed_trials_ends_the_same(
    tmp_path: Path, artifacts: Artifacts, at: int
) -> None:
    spec = toy_spec(**MEASURED, trials=20)
    whole, cut = (f"sqlite:///{tmp_path}/{n}.db" for n in ("whole", "cut"))
    run(whole, spec, artifacts, ToyPerform(spec), Resuming)
    with Store(whole, read_only=True) as store:
        assert "resumed" in {e.kind for e in store.events(spec.name)}
    with pytest.raises(Interrupt):
        run(cut, spec, artifacts, Dying(spec, at), Resuming)
    run(cut, spec, artifacts, ToyPerform(spec), Resuming)
    assert recorded(cut, spec) == recorded(whole, spec)


def test_a_resumed_trial_takes_what_another_study_trained(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = (toy_spec(name=n, trials=20) for n in ("first", "second"))
    run(url, first, artifacts, ToyPerform(first), Resuming)
    again = ToyPerform(second)
    run(url, second, artifacts, again, Resuming)
    assert not [j for j in again.done if j["kind"] == "train"]
    states = [[(t.number, t.state, t.values) for t in recorded(url, s)[0]] for s in (first, second)]
    assert states[0] == states[1]


def test_another_study_reuses_trainings_and_timings(tmp_path: Path, artifacts: Artifacts) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = (toy_spec(name=n, **MEASURED) for n in ("first", "second"))
    run(url, first, artifacts, ToyPerform(first))
    again = ToyPerform(second)
    run(url, second, artifacts, again)
    assert {job["kind"] for job in again.done} == {"build"}
    ours, theirs = recorded(url, first), recorded(url, second)
    assert [t.values for t in ours[0]] == [t.values for t in theirs[0]]
    assert all(r.reused for t in theirs[0] for r in t.rungs)


def test_fresh_reuses_nothing(tmp_path: Path, artifacts: Artifacts) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = toy_spec(name="first"), toy_spec(name="second", fresh=True)
    run(url, first, artifacts, ToyPerform(first))
    again = ToyPerform(second)
    run(url, second, artifacts, again)
    assert "train" in {job["kind"] for job in again.done}


def test_a_longer_training_of_another_recipe_is_not_taken_for_this_one(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = toy_spec(name="first"), toy_spec(name="second", recipe={"batch": 64})
    run(url, first, artifacts, ToyPerform(first))
    again = ToyPerform(second)
    run(url, second, artifacts, again)
    assert "train" in {job["kind"] for job in again.done}


def test_reuse_stops_where_the_files_do(tmp_path: Path, artifacts: Artifacts) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = (toy_spec(name=n, promotion="none") for n in ("first", "second"))
    run(url, first, artifacts, ToyPerform(first))
    (artifacts.folder / ("2" * 64 + ".onnx")).unlink()
    again = ToyPerform(second)
    run(url, second, artifacts, again)
    trained = [job for job in again.done if job["kind"] == "train"]
    last = len(second.fidelity.rungs) - 1
    assert trained and {job["from_rung"] for job in trained} == {last}


def test_each_thing_measured_is_shared_as_what_it_is(tmp_path: Path, artifacts: Artifacts) -> None:
    energy = BUILTIN["energy_mj"]
    changes = {"objectives": (BUILTIN["accuracy"], energy), "probes": ("energy_mj",)}
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = (toy_spec(name=n, trials=4, **changes) for n in ("first", "second"))
    run(url, first, artifacts, ToyPerform(first))
    again = ToyPerform(second)
    run(url, second, artifacts, again)
    assert not [job for job in again.done if job["kind"] == "measure"]
    trials, _ = recorded(url, second)
    for name, found in ((n, m) for t in trials for n, m in t.measurements.items()):
        assert name.startswith(found.objective + "@")
    assert {m.objective for t in trials for m in t.measurements.values()} == {
        "latency_ms", "energy_mj",
    }  # fmt: skip


def test_whoever_watches_sees_every_trial_end(tmp_path: Path, artifacts: Artifacts) -> None:
    spec = toy_spec(trials=5)
    seen: list[Snapshot] = []
    run(f"sqlite:///{tmp_path}/a.db", spec, artifacts, ToyPerform(spec), watch=seen.append)
    assert len(seen[-1].trials) == 5 and seen[-1].front.members
    assert any(s.jobs for s in seen) and not seen[-1].jobs


def test_a_full_disk_ends_the_run_and_costs_no_trial(tmp_path: Path, artifacts: Artifacts) -> None:
    spec = toy_spec(trials=4)
    url = f"sqlite:///{tmp_path}/a.db"

    class Full(ToyPerform):
        def __call__(self, job: Any, report: Any) -> dict[str, Any]:
            if job["kind"] == "train" and len(self.done) > 2:
                return {"values": {}, "error": None, "halt": "No space left", "seconds": 0.0}
            return super().__call__(job, report)

    with pytest.raises(NasError, match="No space left"):
        run(url, spec, artifacts, Full(spec))
    run(url, spec, artifacts, ToyPerform(spec))
    trials, _ = recorded(url, spec)
    assert len(trials) == 4 and {t.state for t in trials} <= {"complete", "stopped"}


class Moving(ToyPerform):
    """Measures on a node that is not the one the search was told of at its start."""

    def __call__(self, job: Any, report: Any) -> dict[str, Any]:
        outcome = super().__call__(job, report)
        if job["kind"] == "measure":
            where = {"host": "another", "runtime": "runtime 2", "protocol": "protocol 1"}
            outcome["values"] = {**outcome["values"], "bench": where}
        return outcome


def test_measurements_are_stored_under_the_host_that_took_them(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    spec = toy_spec(**MEASURED, trials=6)
    urls = [f"sqlite:///{tmp_path}/{n}.db" for n in "ab"]
    for url, perform in zip(urls, (ToyPerform(spec), Moving(spec)), strict=True):
        run(url, spec, artifacts, perform)
    found = []
    for url in urls:
        with Store(url, read_only=True) as store:
            builds = {t.build for t in store.trials(spec.name) if t.build}
            found.append(
                [
                    sum(store.timing(b, "untrained", "b1", *where) is not None for b in builds)
                    for where in (("host", "runtime 1", "protocol 1"),
                                  ("another", "runtime 2", "protocol 1"))
                ]
            )  # fmt: skip
    assert found == [[len(builds), 0], [0, len(builds)]] and builds
    assert recorded(urls[0], spec) == recorded(urls[1], spec)  # and nothing else is another
