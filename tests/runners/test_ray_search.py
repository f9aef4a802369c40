"""How many jobs a search has under way on a cluster that grows and shrinks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import clusters
from clusters import Gate, Place, awaited, ended, errors, parent, states
from conftest import toy_space, toy_spec
from ray.tune.utils.object_cache import _ObjectCache
from test_engine import Sampling

from nas.core.job import Build, Wait
from nas.engine import Search
from nas.runners import ray_search
from nas.runners.ray import LOST, Cluster
from nas.runners.ray_search import FOLLOW_S, Decides, Driver, Ray, Terms
from nas.runners.ray_trackers import DRAWN
from nas.session import SPARE, Session
from nas.store.store import Store


def on_a_cluster(test: Any) -> Any:
    """Marks a test that takes a cluster of its own."""
    for mark in [*clusters.MARKS, pytest.mark.long]:
        test = mark(test)
    return test


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [100.0]
    monkeypatch.setattr(ray_search.time, "monotonic", lambda: found[0])
    return found


def cluster(*cores: float) -> tuple[Cluster, list[dict[str, Any]]]:
    nodes = [{"NodeID": str(n), "Alive": True, "Resources": {"CPU": c}}
             for n, c in enumerate(cores)]  # fmt: skip
    return Cluster(SimpleNamespace(nodes=lambda: nodes)), nodes


def driver(terms: Terms, cluster: Cluster) -> Driver:
    """One whose session proposes and stores nothing."""
    spec = toy_spec(trials=40)
    search = Search(spec, toy_space(), Sampling(spec.seed), width=terms.room(cluster) + SPARE)
    session = Session(search, SimpleNamespace(commit=lambda *given: None), 0, None)  # type: ignore[arg-type]
    leases = SimpleNamespace(collect=lambda: [], under_way=False)
    return Driver(session, leases, lambda: terms.room(cluster))  # type: ignore[arg-type]


def taken(found: Driver) -> int:
    """How many jobs it hands out until there is no room."""
    names = (f"trial {len(found._jobs)}" for _ in range(100))
    return sum(1 for _ in iter(lambda: found.next(next(names)), None))


def test_nodes_that_join_get_work_and_those_that_leave_are_not_counted_on(
    clock: list[float],
) -> None:
    place, nodes = cluster(2.0)
    found = driver(Terms(), place)
    assert taken(found) == 2
    nodes.append({"NodeID": "late", "Alive": True, "Resources": {"CPU": 5.0}})
    assert taken(found) == 0  # not looked at all the time
    clock[0] += FOLLOW_S
    assert taken(found) == 5 and found.session.search.width == 7 + SPARE
    nodes[-1]["Alive"] = False
    clock[0] += FOLLOW_S
    assert taken(found) == 0 and found.session.search.width == 2 + SPARE


def test_a_number_that_was_given_stays(clock: list[float]) -> None:
    place, nodes = cluster(2.0)
    found = driver(Terms(at_once=3), place)
    assert taken(found) == 3
    nodes.append({"NodeID": "late", "Alive": True, "Resources": {"CPU": 5.0}})
    clock[0] += FOLLOW_S
    assert taken(found) == 0 and found.session.search.width == 3 + SPARE


def test_the_same_history_is_explained_by_any_width() -> None:
    spec = toy_spec(trials=12)
    search = Search(spec, toy_space(), Sampling(spec.seed), width=2)
    handed = []
    for width in (2, 5, 1):
        search.width = width
        while not isinstance(job := search.ask(), Wait):
            assert isinstance(job, Build)
            handed.append(job.trial)
    events = search.drain()
    assert handed == list(range(5))
    again = Search(spec, toy_space(), Sampling(spec.seed), width=1)
    assert [again.retrace(event) for event in events] == events


@pytest.mark.parametrize("lacks", [True, False])
def test_what_no_node_has_is_said_and_waited_for(
    lacks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    terms = Terms({"CPU": 1.0, "gpus": 1.0} if lacks else {"CPU": 1.0})
    runner = Ray(cluster(2.0)[0], {}, None, terms)  # type: ignore[arg-type]
    runner._warn()
    assert [r.getMessage() for r in caplog.records] == lacks * [
        "no node of the cluster has what one job takes (cpu=1,gpus=1): jobs wait until one comes\n"
        "  --resources takes what nodes offer, at most now: cpu=2"
    ]


class Added:
    """A trial of Tune's, as much of it as a scheduler asks for."""

    placement_group_factory = "one processor"


def test_as_many_idle_actors_are_kept_as_there_is_room_for(clock: list[float]) -> None:
    place, nodes = cluster(2.0)
    found = driver(Terms(), place)
    cache = _ObjectCache(may_keep_one=True)
    decides, tune = Decides(found), SimpleNamespace(_actor_cache=cache)
    for _ in range(3):
        decides.on_trial_add(tune, Added())
    key = Added.placement_group_factory
    assert [cache.cache_object(key, n) for n in range(3)] == [True, True, False]
    nodes.append({"NodeID": "late", "Alive": True, "Resources": {"CPU": 1.0}})
    clock[0] += FOLLOW_S
    taken(found)
    decides.on_trial_add(tune, Added())
    assert cache.cache_object(key, 2) and not list(cache.flush_cached_objects())
    nodes[-1]["Alive"] = nodes[0]["Alive"] = False
    clock[0] += FOLLOW_S
    taken(found)
    decides.on_trial_add(tune, Added())
    assert list(cache.flush_cached_objects()) == [0, 1]


def test_a_tune_that_keeps_actors_otherwise_is_left_alone(clock: list[float]) -> None:
    decides = Decides(driver(Terms(), cluster(2.0)[0]))
    for other in (SimpleNamespace(), SimpleNamespace(_actor_cache=object())):
        decides.on_trial_add(other, Added())


def test_a_job_is_not_blamed_for_actors_that_were_gone_before_it(
    clock: list[float], tmp_path: Path
) -> None:
    found = driver(Terms(), cluster(1.0)[0])
    (tmp_path / "error").write_text(died := "The actor died because its node has died.")
    trial = SimpleNamespace(trial_id="t", error_file=str(tmp_path / "error"))
    first = found.session.search.trials

    def lost(resetting: list[Any]) -> None:
        assert found.next("t") is not None and not first[0].error
        Decides(found).on_trial_error(SimpleNamespace(_resetting_trials=resetting), trial)
        found.ended("t", None)

    for _ in range(2 * LOST):
        lost([trial])
    for _ in range(LOST):
        lost([])
    assert first[0].error == died


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A cluster of a head alone."""
    found = Place(tmp_path, nodes=0)
    yield found
    for search in clusters.STARTED:
        search.kill()
        search.communicate()
    clusters.STARTED.clear()
    found.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/nas.db"


def built(url: str) -> int:
    """How many networks a search has built."""
    with Store(url, read_only=True) as store:
        return sum(e.kind == "reported" and e.payload["job"] == "build" for e in store.events("s"))


def idle(place: Place, url: str, many: int) -> dict[str, Gate]:
    """The gates of a search whose workers, so many, all wait until something is measured."""
    place.join(cpus=many)
    place.join(cpus=0, resources={"device:cpu": 1})
    gates = {kind: place.gate() for kind in ("work", "build", "measure", "train")}
    place.search(url, "s", timed=True, gates=gates)
    gates["build"].waiting(many)
    gates["build"].open()
    awaited("nothing left to do but to measure", lambda: built(url) == many + SPARE)
    gates["measure"].waiting(1)
    return gates


@on_a_cluster
def test_a_search_that_waits_for_measurements_keeps_its_workers(place: Place, url: str) -> None:
    gates = idle(place, url, 2)
    gates["measure"].open()
    gates["train"].waiting(2)
    gates["train"].open()
    ended(clusters.STARTED[-1])
    assert len(gates["work"].came()) == 2 + 1  # two that build and train, and one that measures
    assert errors(url, "s") == []


@on_a_cluster
def test_workers_that_go_while_they_are_idle_are_no_trials_fault(place: Place, url: str) -> None:
    gates = idle(place, url, 2)
    for worker in gates["build"].came():
        os.kill(parent(worker), signal.SIGKILL)
    gates["measure"].open()
    gates["train"].waiting(2)
    gates["train"].open()
    ended(clusters.STARTED[-1])
    assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
    assert errors(url, "s") == []


@on_a_cluster
def test_what_no_node_has_is_said_while_the_search_waits_for_one(place: Place, url: str) -> None:
    place.join(cpus=1)
    gate = place.gate()
    wanted = {"CPU": 1.0, "GPU": 1.0}
    search = place.search(url, "s", gates={"train": gate}, resources=wanted)
    assert search.stderr is not None
    assert "no node of the cluster has what one job takes (cpu=1,gpu=1)" in search.stderr.readline()
    place.join(cpus=1, num_gpus=1)
    gate.waiting(1)
    gate.open()
    ended(search)
    assert errors(url, "s") == []


@on_a_cluster
def test_four_jobs_share_a_gpu(place: Place, url: str) -> None:
    place.join(cpus=4, num_gpus=1)
    place.join(cpus=4)
    gate = place.gate()
    search = place.search(url, "s", gates={"train": gate}, resources={"CPU": 1.0, "GPU": 0.25})
    gate.waiting(4)
    gate.open()
    ended(search)
    assert len(gate.came()) == 4
    assert errors(url, "s") == []


@on_a_cluster
def test_tensorboards_files_are_there_while_the_search_goes_on_and_after_an_interrupt(
    place: Place, url: str, tmp_path: Path
) -> None:
    place.join(cpus=1)
    gate = place.gate()
    search = place.search(url, "s", gates={"train": gate}, callbacks=["tensorboard"])
    gate.waiting(1)

    def drawn() -> list[Path]:
        found = (tmp_path / DRAWN / "s").glob("*-build-*/events.out.tfevents.*")
        return [path for path in found if b"macs" in path.read_bytes()]

    there = awaited("the event file of a network that is built", drawn)
    search.send_signal(signal.SIGINT)
    ended(search, -signal.SIGINT)
    assert set(there) <= set(drawn())
