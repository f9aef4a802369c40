"""What has the lease of a device is lost while it measures."""

from __future__ import annotations

import os
import signal

import pytest
from audit import audit, held
from clusters import MARKS, Place, awaited, ended, errors, parent, states

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
    assert errors(url, "s") == []
    assert audit(url, "s", place.locks) == []
