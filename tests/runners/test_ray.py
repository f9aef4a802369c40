from __future__ import annotations

import pytest

from nas.catalog import DEVICES, find
from nas.core.errors import NasError
from nas.hardware.device import load, parse
from nas.runners.ray import nodes_with, resources


def test_a_node_has_a_device_by_rays_name_or_by_the_profiles() -> None:
    assert resources(load(find(DEVICES, "a100"))) == ("accelerator_type:A100", "device:a100")
    assert resources(parse('kind = "cpu"', "mine")) == ("device:mine",)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_said_at_once(address: str) -> None:
    with pytest.raises(NasError, match="no Ray cluster answers") as caught:
        nodes_with([], address)
    assert "ray start --head" in caught.value.hint


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
