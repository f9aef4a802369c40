"""Every device profile found: it loads, says whether it is here, and can be asked for a latency."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx_networks import mixed

from nas.catalog import DEVICES, find, names
from nas.core.job import Workload
from nas.hardware.device import Device, attached, load
from nas.hardware.lease import Lease
from nas.hardware.prediction.predict import predict
from nas.hardware.timing import measure

BASES = {"datasheet", "transfer", "anchored", "table", "extrapolated"}


@pytest.fixture(params=names(DEVICES))
def device(request: pytest.FixtureRequest) -> Device:
    return load(find(DEVICES, request.param))


def test_it_says_what_it_is(device: Device) -> None:
    assert device.title and device.kind and device.runtime and device.threads >= 1
    assert all(fact.source for fact in device.facts.values())


def test_it_gives_a_latency_that_says_how_it_came_about(device: Device, tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    mixed(file)
    if attached(device):
        lease = Lease(tmp_path / "locks", device.name)
        [found] = measure([file], device, lease, Workload(), basis="untrained form")
        assert not isinstance(found, str), found
        assert (found.source, found.basis) == ("measured", "untrained form")
    else:
        found = predict(file, device)
        assert found.source == "predicted" and found.basis in BASES
    assert found.objective == "latency_ms" and found.unit == "ms"
    assert 0 < found.low < found.value < found.high and found.se > 0


def test_the_processor_of_this_machine_is_here() -> None:
    assert attached(load(find(DEVICES, "cpu")))
