"""The head of the cluster is lost, or starts again and knows of nothing.

Ray then ends the driver by itself, without a word to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from audit import audit
from clusters import MARKS, Place, ended

pytestmark = MARKS


@contextmanager
def cluster(folder: Path, port: int = 0) -> Iterator[Place]:
    pytest.importorskip("ray.cluster_utils")
    place = Place(folder, port=port)
    try:
        yield place
    finally:
        place.close()


@pytest.mark.long
def test_the_head_is_lost_and_the_search_resumed_on_another_cluster(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # a minute otherwise
    with cluster(tmp_path) as first:
        gate = first.gate()
        search = first.search(url, "s", gates={"train": gate})
        gate.waiting(2)
        first.cluster.remove_node(first.cluster.head_node, allow_graceful=False)
        search.communicate(timeout=120)
        assert search.returncode != 0
    with cluster(tmp_path) as second:
        ended(second.search(url, "s", resume=True))
        assert audit(url, "s", second.locks) == []


@pytest.mark.long
def test_a_head_starts_again_at_its_address_and_knows_of_nothing(url: str, tmp_path: Path) -> None:
    with cluster(tmp_path) as first:
        gate, address = first.gate(), first.cluster.address
        search = first.search(url, "s", gates={"train": gate})
        gate.waiting(2)
        first.restart_head()
        search.communicate(timeout=120)
        assert search.returncode != 0  # as it is with every node: they are started again as well
    with cluster(tmp_path, port=int(address.rpartition(":")[2])) as second:
        assert second.cluster.address == address
        ended(second.search(url, "s", resume=True))
        assert audit(url, "s", second.locks) == []
