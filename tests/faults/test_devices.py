"""What has the lease of a device is lost while it measures."""

from __future__ import annotations

import os
import signal

import pytest
from audit import audit, held
from clusters import MARKS, Place, awaited, ended, errors, parent, sources, states

from nas.store.store import Store

pytestmark = MARKS


@pytest.mark.long
def test_the_actor_then_the_node_of_a_device_are_killed_while_it_measures(
    place: Place, url: str
) -> None:
    place.join(cpus=0, resources={"device:cpu": 1})
    gate = place.gate()
    search = place.search(url, "s", timed=True, gates={"measure": gate})
    [first] = gate.waiting(1)
    # it is taken anew for each step
    awaited("its lease", lambda: "cpu.room" in held(place.locks))
    os.kill(parent(first), signal.SIGKILL)
    awaited("the measurement, begun again", lambda: [n for n in gate.waiting(1) if n != first])
    place.leave(place.nodes[-1])
    awaited("the lease, free again", lambda: held(place.locks) == [])
    place.join(cpus=0, resources={"device:cpu": 1})
    gate.open()
    ended(search)
    place.leave(place.nodes[-1])
    assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
    assert errors(url, "s") == [] and set(sources(url, "s")) == {"measured"}
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_the_node_of_a_device_leaves_for_good_where_predictions_are_allowed(
    place: Place, url: str
) -> None:
    # a node that another test killed is known to be gone
    awaited("the nodes that live", lambda: place.alive() == 1 + len(place.nodes))
    place.join(cpus=0, resources={"device:cpu": 1})
    gate = place.gate()
    search = place.search(url, "s", timed=True, gates={"measure": gate}, predict_after_s=0.0)
    [first] = gate.waiting(1)
    place.leave(place.nodes[-1])
    awaited("a prediction in place of the measurement", lambda: first not in gate.waiting(1))
    gate.open()
    ended(search)
    assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
    assert errors(url, "s") == []
    assert set(sources(url, "s")) == {"predicted"}
    with Store(url, read_only=True) as store:
        front = store.front("s")
    assert front is not None and front.members
    assert {m.measurements["latency_ms"].source for m in front.members} == {"predicted"}
    assert audit(url, "s", place.locks) == []
