from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from nas.catalog import DEVICES, find
from nas.core.errors import NasError
from nas.hardware.device import load, parse
from nas.runners.ray import Cluster, joined, nodes_with, resources


def test_a_node_has_a_device_by_rays_name_or_by_the_profiles() -> None:
    assert resources(load(find(DEVICES, "a100"))) == ("accelerator_type:A100", "device:a100")
    assert resources(parse('kind = "cpu"', "mine")) == ("device:mine",)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_without_a_cluster_is_said_at_once(address: str) -> None:
    with pytest.raises(NasError, match="no Ray cluster answers") as caught:
        nodes_with([], address)
    assert "ray start --head" in caught.value.hint


@pytest.mark.parametrize("typed", [True, False])
def test_rays_client_is_refused_with_the_address_to_type(
    monkeypatch: pytest.MonkeyPatch, typed: bool
) -> None:
    address = "ray://10.0.0.7:10001"
    if not typed:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(NasError, match="is of Ray's client") as caught, joined(typed * address):
        pass
    assert caught.value.hint.endswith("--address 10.0.0.7:6379")


@pytest.mark.parametrize("answers", [True, False])
def test_what_starts_with_a_cluster_knows_of_no_database(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    given = {"NAS_STORAGE": "postgresql://me:secret@host/nas", "PGPASSWORD": "secret"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    inherited: list[dict[str, str]] = []

    def init(**options: Any) -> None:
        inherited.append(dict(os.environ))
        if not answers:
            raise ConnectionError("nobody there")

    errors = SimpleNamespace(RayError=RuntimeError)
    fake = SimpleNamespace(
        is_initialized=lambda: False, init=init, shutdown=lambda: None, exceptions=errors
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    with nullcontext() if answers else pytest.raises(NasError), joined():
        assert given.items() <= os.environ.items()  # the search's own again
    assert inherited == [{n: v for n, v in os.environ.items() if n not in given}]
    assert given.items() <= os.environ.items()


def test_what_a_cluster_lacks_for_a_job() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 9e9, "node:10.0.0.1": 1.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0, "device:board": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    cluster = Cluster(SimpleNamespace(nodes=lambda: nodes))
    for enough in ({"CPU": 2.0}, {"CPU": 1.0, "GPU": 0.25}, {"CPU": 0.0, "device:board": 1.0}):
        assert cluster.lacking(enough) == ""
    for much in ({"CPU": 2.0, "GPU": 1.0}, {"CPU": 3.0}, {"CPU": 1.0, "gpus": 1.0}):
        assert cluster.lacking(much) == "cpu=2,gpu=1,device:board=1"
    assert Cluster(SimpleNamespace(nodes=list)).lacking({"CPU": 1.0}) == "nothing"


@pytest.mark.slow
def test_the_nodes_of_a_cluster_are_counted() -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    card = {"accelerator_type:A100": 1}
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "resources": card}
    )
    try:
        cluster.add_node(num_cpus=1, resources={**card, "device:jetson_orin_nano": 1})
        known = [load(find(DEVICES, n)) for n in ("a100", "cpu", "jetson_orin_nano")]
        found = nodes_with(known, cluster.address)
    finally:
        cluster.shutdown()
    assert found == {"a100": 2, "cpu": 0, "jetson_orin_nano": 1}
