"""How many jobs a search has under way on a cluster that grows and shrinks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from conftest import toy_space, toy_spec
from test_engine import Sampling

from nas.core.job import Build, Wait
from nas.engine import Search
from nas.runners import ray_search
from nas.runners.ray import Cluster
from nas.runners.ray_search import FOLLOW_S, Driver, Terms
from nas.session import SPARE, Session


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
