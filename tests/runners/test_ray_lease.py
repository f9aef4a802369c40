"""Measurements wait for the node with the device; predicted they are only where that is allowed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toywork

pytest.importorskip("ray")

from nas.core.errors import NasError
from nas.core.job import Measure, Outcome, job_to_json
from nas.hardware.device import Device, named, parse
from nas.runners import ray_lease
from nas.runners.ray import LOST, Cluster, joined, resources
from nas.runners.ray_lease import Leases
from nas.session import Bench

JOB = Measure((0,), "untrained", ("0" * 64 + ".onnx",), ("b",), "board")


class Lost(Exception):
    """What Ray raises where an actor or its node is gone."""


class Late(Lost):
    """What Ray raises where there is no answer in time."""


class Failed(Lost):
    """What Ray raises where the actor's own code did."""

    cause: Exception = NasError(
        "the node n1 offers board to the cluster, but has something else", "mend it"
    )


class Rays:
    """As much of Ray as `Leases` uses: nodes, actors that answer when they are told to."""

    def __init__(self) -> None:
        self.alive = {"home": {"CPU": 1.0}, "n1": {"CPU": 1.0, "device:board": 1.0}}
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[int, Any] = {}
        self.exceptions = SimpleNamespace(RayTaskError=Failed, RayError=Lost, GetTimeoutError=Late)
        strategy = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(scheduling_strategies=strategy)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": n, "Alive": True, "Resources": r} for n, r in self.alive.items()]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "home")

    def wait(self, answers: list[int], timeout: float) -> tuple[list[int], list[int]]:
        done = [a for a in answers if a in self.answers]
        return done, [a for a in answers if a not in done]

    def get(self, answer: int, timeout: float = 0) -> Any:
        found = self.answers[answer]
        if isinstance(found, Exception):
            raise found
        return found

    def options(self, **given: Any) -> Any:
        def measure(setup: Any, job: Any) -> int:
            self.asked.append((given["scheduling_strategy"], setup["stands"]))
            return len(self.asked) - 1

        def bench(setup: Any, device: str, runtime: str | None) -> int:
            return -1

        actor = SimpleNamespace(
            measure=SimpleNamespace(remote=measure),
            bench=SimpleNamespace(remote=bench),
            name=given["name"],
        )
        return SimpleNamespace(remote=lambda: actor)


@pytest.fixture
def rays(monkeypatch: pytest.MonkeyPatch) -> Rays:
    found = Rays()
    monkeypatch.setattr(ray_lease, "Lessor", found)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [100.0]
    monkeypatch.setattr(ray_lease.time, "monotonic", lambda: found[0])
    return found


def board(stands: str | None = "elsewhere") -> Device:
    return replace(parse('kind = "cuda"\nnames = ["a board"]', "board"), stands=stands)


def leases(rays: Rays, after_s: float | None = None) -> Leases:
    return Leases(Cluster(rays), {"stands": {}}, {"board": board()}, after_s)


def test_a_batch_goes_to_the_node_that_has_the_device(rays: Rays) -> None:
    found = leases(rays)
    found.begin(JOB)
    assert list(found.collect()) == [] and found.under_way
    assert rays.asked == [("n1", {"board": "here"})]
    rays.answers[0] = Outcome({"measurements": {}}).to_json()
    assert list(found.collect()) == [(JOB, Outcome({"measurements": {}}))]
    assert not found.under_way


def test_what_is_attached_here_or_nowhere_is_done_on_this_node(rays: Rays) -> None:
    found = Leases(Cluster(rays), {"stands": {}}, {"board": board(None)})
    found.begin(JOB)
    list(found.collect())
    assert rays.asked == [("home", {})]


def test_a_device_whose_node_leaves_is_waited_for(rays: Rays, clock: list[float]) -> None:
    found = leases(rays)
    found.begin(JOB)
    list(found.collect())
    del rays.alive["n1"]
    rays.answers[0] = Lost("the node is gone")
    for _ in range(3):
        assert list(found.collect()) == []
    assert found.under_way and len(rays.asked) == 1
    rays.alive["n2"] = {"accelerator_type:X": 1.0, "device:board": 1.0}
    clock[0] += ray_lease.REST_S
    list(found.collect())
    assert rays.asked[1:] == [("n2", {"board": "here"})]


def test_it_is_predicted_after_a_while_only_where_that_is_allowed(
    rays: Rays, clock: list[float]
) -> None:
    del rays.alive["n1"]
    patient, impatient = leases(rays), leases(rays, after_s=60.0)
    for found in (patient, impatient):
        found.begin(JOB)
    for seconds in (0.0, 30.0, 59.0):
        clock[0] = 100.0 + seconds
        assert list(patient.collect()) == list(impatient.collect()) == []
        assert rays.asked == []
    clock[0] = 161.0
    list(patient.collect()), list(impatient.collect())
    assert rays.asked == [("home", {"board": "away"})]


def test_the_while_is_that_without_a_node_however_long_the_measuring_took(
    rays: Rays, clock: list[float]
) -> None:
    found = leases(rays, after_s=60.0)
    found.begin(JOB)
    list(found.collect())
    clock[0] += 1000.0
    rays.answers[0] = Lost("the node is gone")
    del rays.alive["n1"]
    for _ in range(2):  # the loss, then the first look for a node
        list(found.collect())
    clock[0] += 59.0
    list(found.collect())
    assert len(rays.asked) == 1
    clock[0] += 1.0
    list(found.collect())
    assert rays.asked[1:] == [("home", {"board": "away"})]


@pytest.mark.parametrize(
    "words",
    [
        "The actor died.\n\tpid: 7\nout of memory",
        "The actor died unexpectedly before finishing this task. The actor is dead because its "
        "worker process has died. The actor never ran - it was cancelled before it started "
        "running.\nout of memory",
    ],
)
def test_an_actor_that_keeps_dying_is_blamed_on_the_batch(
    rays: Rays, clock: list[float], words: str
) -> None:
    found = leases(rays)
    found.begin(JOB)
    told: list[tuple[Measure, Outcome]] = []
    while not told:
        told = list(found.collect())
        rays.answers[len(rays.asked) - 1] = Lost(words)
        clock[0] += ray_lease.REST_S
        assert len(rays.asked) <= LOST
    assert told == [(JOB, Outcome(error="board was lost 3 times while it measured: out of memory"))]
    assert len(rays.asked) == LOST and not found.under_way


def test_after_a_loss_a_batch_rests(rays: Rays, clock: list[float]) -> None:
    found = leases(rays)
    found.begin(JOB)
    list(found.collect())
    rays.answers[0] = Lost("the actor died, and is still named")
    for _ in range(5):
        assert list(found.collect()) == []
    assert len(rays.asked) == 1
    clock[0] += ray_lease.REST_S
    list(found.collect())
    assert len(rays.asked) == 2


@pytest.mark.parametrize(
    "words",
    [
        "The actor is dead because its owner has died. Owner Id: 01",
        "The actor is dead because all references to the actor were removed.",
        "The actor is dead because its node has died. Node Id: 02. The actor never ran - it was "
        "cancelled before it started running.",
    ],
)
def test_an_actor_that_went_with_its_search_or_never_ran_is_not_counted(
    rays: Rays, clock: list[float], words: str
) -> None:
    found = leases(rays)
    found.begin(JOB)
    for number in range(2 * LOST):
        assert list(found.collect()) == []
        rays.answers[number] = Lost(words)
        assert list(found.collect()) == []
        clock[0] += ray_lease.REST_S
    assert found.under_way and len(rays.asked) == 2 * LOST


def test_a_node_that_offers_what_it_has_not_costs_an_attempt_and_says_so(rays: Rays) -> None:
    found = leases(rays)
    found.begin(JOB)
    list(found.collect())
    rays.answers[0] = Failed("...")
    [(_, outcome)] = found.collect()
    assert "n1 offers board" in str(outcome.error)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Late("..."), "nothing in 120 s"),
        (Lost("The actor died.\n\nits node has died"), "its node has died"),
        (Failed("..."), "n1 offers board"),
    ],
)
def test_a_search_that_cannot_begin_to_measure_says_where(
    rays: Rays, answer: Exception, told: str
) -> None:
    rays.answers[-1] = answer
    spec = SimpleNamespace(runtime_on=lambda name: None)
    with pytest.raises(NasError, match=told) as caught:
        leases(rays).benches(spec)  # type: ignore[arg-type]
    assert "n1" in caught.value.problem and "\n" not in caught.value.problem + caught.value.hint


def test_a_search_that_begins_as_another_ends_asks_again(
    rays: Rays, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_ends(seconds: float) -> None:
        rays.answers[-1] = {"host": "n1", "runtime": "torch", "protocol": "p"}
        clock[0] += seconds

    monkeypatch.setattr(ray_lease.time, "sleep", another_ends)
    gone = Lost("The actor is dead because all references to the actor were removed.")
    rays.answers[-1] = gone
    spec = SimpleNamespace(runtime_on=lambda name: None)
    found = leases(rays).benches(spec)  # type: ignore[arg-type]
    assert found == {"board": Bench(**rays.answers[-1])}
    monkeypatch.setattr(ray_lease.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    rays.answers[-1] = gone
    with pytest.raises(NasError, match="all references"):
        leases(rays).benches(spec)  # type: ignore[arg-type]
    assert clock[0] > 100 + 2 * ray_lease.REST_S


def test_a_search_that_begins_as_a_node_dies_asks_another_one(
    rays: Rays, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    rays.alive["n2"] = rays.alive["n1"]
    asked: list[str] = []

    def options(**given: Any) -> Any:
        def bench(setup: Any, device: str, runtime: str | None) -> int:
            asked.append(given["scheduling_strategy"])
            return -1 if given["scheduling_strategy"] == "n1" else -2

        actor = SimpleNamespace(bench=SimpleNamespace(remote=bench))
        return SimpleNamespace(remote=lambda: actor)

    monkeypatch.setattr(rays, "options", options)
    monkeypatch.setattr(ray_lease.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    rays.answers[-1] = Lost("The actor is not schedulable: The node specified via "
                            "NodeAffinitySchedulingStrategy doesn't exist any more")  # fmt: skip
    rays.answers[-2] = {"host": "n2", "runtime": "torch", "protocol": "p"}
    spec = SimpleNamespace(runtime_on=lambda name: None)
    found = leases(rays).benches(spec)  # type: ignore[arg-type]
    assert found == {"board": Bench(**rays.answers[-2])} and asked == ["n1", "n2"]


def test_a_node_whose_card_is_unlike_is_passed_by(
    rays: Rays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray gives cards of 40 and of 80 GB one name."""
    rays.alive["n2"] = rays.alive["n1"]
    asked, before = list[str](), rays.options

    def options(**given: Any) -> Any:
        node = given["scheduling_strategy"]

        def bench(setup: Any, device: str, runtime: str | None) -> int:
            asked.append(node)
            return -1 if node == "n1" else -2

        actor = before(**given).remote()
        actor.bench = SimpleNamespace(remote=bench)
        return SimpleNamespace(remote=lambda: actor)

    monkeypatch.setattr(rays, "options", options)
    unlike = Failed("...")
    unlike.cause = NasError("the node n1 offers board, but has another", "say so")
    rays.answers |= {-1: unlike, -2: {"host": "n2", "runtime": "torch", "protocol": "p"}}
    found, spec = leases(rays), SimpleNamespace(runtime_on=lambda name: None)
    assert found.benches(spec)["board"].host == "n2"  # type: ignore[arg-type]
    assert asked == ["n1", "n2"]
    found.begin(JOB)
    list(found.collect())
    assert [node for node, _ in rays.asked] == ["n2"]
    del rays.alive["n2"]
    with pytest.raises(NasError, match="but has another"):
        leases(rays).benches(spec)  # type: ignore[arg-type]


def test_an_error_without_a_word_is_told_by_its_name(rays: Rays) -> None:
    found = leases(rays)
    found.begin(JOB)
    list(found.collect())
    rays.answers[0] = Failed("...")
    rays.answers[0].cause = MemoryError()
    assert list(found.collect()) == [(JOB, Outcome(error="MemoryError"))]


def test_how_a_device_stands_to_a_search(rays: Rays) -> None:
    cluster, device = Cluster(rays), board(None)
    assert resources(device) == ("device:board",)
    assert cluster.standing(device).stands == "elsewhere"
    del rays.alive["n1"]
    assert cluster.standing(device).stands is None  # predicted
    assert cluster.standing(device, measured=True).stands == "elsewhere"  # it will come back


def test_how_many_jobs_fit(rays: Rays) -> None:
    rays.alive = {"a": {"CPU": 8.0, "GPU": 2.0}, "b": {"CPU": 3.0}}
    cluster = Cluster(rays)
    assert cluster.slots({"CPU": 1.0}) == 11
    assert cluster.slots({"CPU": 1.0, "GPU": 0.25}) == 8
    assert cluster.slots({"CPU": 2.0, "GPU": 0.0}) == 5


MEASURING = '''
"""Measures nothing, once a file says that it may."""
import time
from pathlib import Path

def work(given, beat):
    def perform(job, report):
        while not Path("go").exists():
            beat()
            time.sleep(0.01)
        return {"values": {"measurements": {}}}
    return perform
'''


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_search_begins_while_another_measures_and_is_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", "local")  # not the cluster of other tests of this machine
    (tmp_path / "measuring.py").write_text(MEASURING)
    setup = {
        "spec": toywork.spec().to_json(), "folder": str(tmp_path), "sources": {},
        "paths": [*sys.path, str(tmp_path)], "silence_s": 60.0, "work": "measuring:work",
        "stands": {"cpu": "here"},
    }  # fmt: skip
    with joined() as cluster:
        answering = Leases(cluster, setup, {"cpu": named("cpu")})
        actor = answering._actor(cluster.home(), answering._devices["cpu"])
        under_way = actor.measure.remote(setup, job_to_json(replace(JOB, device="cpu")))
        told = ray.get(actor.bench.remote(setup, "cpu", None), timeout=60)
        assert not ray.wait([under_way], timeout=0)[0]
        (tmp_path / "go").touch()
        assert ray.get(under_way)["values"]["bench"] == told
