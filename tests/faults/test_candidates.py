"""What candidates do, and the processes and nodes that train them lose.

    pytest -q -m "long or not long" tests/faults     or ten times: python benchmarks/fault_suite.py

Everything in this folder goes wrong for real, on a cluster of several nodes on this machine;
afterwards an independent check (`audit`) finds nothing amiss. `NAS_TEST_OUTAGE_S` is how long the
database is away in the tests that restart it, freeze it or cut it off (3 seconds).
"""

from __future__ import annotations

import os
import signal

import pytest
from audit import audit
from clusters import MARKS, TRIALS, Place, awaited, ended, errors, parent, states

pytestmark = MARKS


@pytest.mark.long
def test_candidates_that_crash_hang_or_eat_memory_cost_one_trial_each(
    place: Place, url: str
) -> None:
    ways = ["segfault", "hang", "memory"]
    ended(place.search(url, "s", presets=ways, silence_s=15.0))
    found = states(url, "s")
    for number, reason in enumerate(["SIGSEGV", "said nothing for 15 s", "MemoryError"]):
        state, error = found[number]
        assert state == "failed" and reason in error
    assert {found[n][0] for n in range(3, TRIALS)} <= {"complete", "stopped"}
    assert audit(url, "s", place.locks) == []


def test_a_worker_killed_then_a_node_killed_mid_rung(place: Place, url: str) -> None:
    gate = place.gate()
    search = place.search(url, "s", gates={"train": gate})
    os.kill(gate.waiting(2)[0], signal.SIGKILL)
    awaited("the loss of a worker, on record", lambda: errors(url, "s"))
    gate.waiting(2)
    place.leave(place.nodes[-1])
    place.join()
    gate.open()
    ended(search)
    assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
    [told] = errors(url, "s")  # the node was no trial's fault
    assert "SIGKILL" in told
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_the_actors_of_ray_killed_mid_rung(place: Place, url: str) -> None:
    gate = place.gate()
    search = place.search(url, "s", gates={"train": gate})
    for worker in gate.waiting(2):
        os.kill(parent(worker), signal.SIGKILL)
    gate.open()
    ended(search)
    assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
    assert errors(url, "s") == []  # a candidate runs elsewhere: this was no trial's fault
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_a_node_that_joins_is_given_work(place: Place, url: str) -> None:
    gate = place.gate()
    search = place.search(url, "s", gates={"train": gate})
    gate.waiting(2)
    place.join(cpus=2)
    gate.waiting(3)
    gate.open()
    ended(search)
    place.leave(place.nodes[-1])
    assert audit(url, "s", place.locks) == []
