"""A link goes down, and what is sent over it vanishes: nobody is refused, nothing is closed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import namespaces
import postgres
import pytest
from audit import audit
from clusters import MARKS, OUTAGE_S, Place, awaited, ended, errors, states, until
from wire import Wire

from nas.store.store import Store

LACKING = namespaces.lacking()
pytestmark = [*MARKS, pytest.mark.skipif(LACKING is not None, reason=LACKING or "")]
# so that a node is missed after about five seconds, not half a minute
HEALTH = {"initial_delay_ms": "0", "period_ms": "1000", "timeout_ms": "1500",
          "failure_threshold": "3"}  # fmt: skip


IN_FLIGHT = 3  # events of a decision that was sent, and not yet answered, when the link went


def recorded(url: str) -> int:
    with Store(url, read_only=True) as store:
        return len(store.events("s"))


@pytest.fixture
def apart() -> Iterator[namespaces.Namespace]:
    with namespaces.namespace() as made:
        yield made


@pytest.mark.long
def test_a_node_loses_its_link_mid_rung(
    url: str, tmp_path: Path, apart: namespaces.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.cluster_utils")
    for name, value in HEALTH.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", value)
    place = Place(tmp_path, nodes=1, node_ip_address=apart.here)
    try:
        with (tmp_path / "node.log").open("w") as log:
            node = apart.start(
                "ray", "start", f"--address={place.cluster.address}", "--block", "--num-cpus=1",
                f"--node-ip-address={apart.there}", stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        awaited("the node there", lambda: place.alive() == 3)
        gate = place.gate()
        search = place.search(url, "s", gates={"train": gate})
        waiting = set(gate.waiting(2))
        assert len(waiting & apart.processes()) == 1
        apart.cut()  # for less than makes a node a dead one
        time.sleep(1)
        apart.mend()
        assert set(gate.waiting(2)) == waiting and place.alive() == 3
        apart.cut()
        awaited("the loss of the node", lambda: place.alive() == 2)
        gate.open()
        ended(search)  # the rung over there has ended as well, and nobody hears of it
        apart.mend()
        awaited("the end of a node that was given up", lambda: node.poll() is not None)
        awaited("the end of its workers", lambda: not apart.processes())
        assert {state for state, _ in states(url, "s").values()} <= {"complete", "stopped"}
        assert errors(url, "s") == []
        assert audit(url, "s", place.locks) == []
    finally:
        place.close()


@pytest.mark.long
def test_the_way_to_the_database_swallows_everything(
    place: Place, apart: namespaces.Namespace
) -> None:
    if not postgres.available() or postgres.GIVEN:
        pytest.skip(postgres.MISSING)
    with postgres.server() as server, Wire(server.port, apart.listener()) as wire:
        url = server.url()
        with Store(url):
            pass
        search = place.search(wire.reached(url), "s")
        until(url, "s", 6, search)
        apart.cut()
        before = recorded(url)
        time.sleep(OUTAGE_S)
        assert search.poll() is None and recorded(url) - before <= IN_FLIGHT
        apart.mend()
        ended(search, seconds=200)
        assert audit(url, "s", place.locks) == []
