"""Callers at once: real threads on a real file, and the statistics by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from onnx_networks import Chain

from nas.core.job import Workload
from nas.hardware import streams
from nas.hardware.agent.streams import together
from nas.hardware.device import named
from nas.hardware.lease import Lease
from nas.hardware.protocol import Protocol

RULES = {"call_cap_s": 5.0, "warm_s": 0.01, "seconds": 0.05}


class Sleeping:
    """Counts who is inside of it at once."""

    inside = 0
    most = 0

    def call(self) -> float:
        Sleeping.inside += 1
        Sleeping.most = max(Sleeping.most, Sleeping.inside)
        sum(range(2000))
        Sleeping.inside -= 1
        return 1.0


class Failing:
    def call(self) -> float:
        raise ValueError("it broke")


def test_every_caller_is_heard_and_all_go_on_until_the_end():
    found = together([Sleeping() for _ in range(4)], RULES)
    assert len(found["samples"]) == 4 and all(len(own) >= 30 for own in found["samples"])
    assert Sleeping.most > 1 and found["seconds"] >= 0.05


def test_a_caller_that_fails_ends_the_measurement():
    with pytest.raises(RuntimeError, match="ValueError: it broke"):
        together([Sleeping(), Failing()], RULES)


def test_the_number_is_the_median_of_processes_and_its_doubt_is_theirs(monkeypatch):
    def session(us):
        result = {"samples": [[us] * 60, [3 * us] * 40], "seconds": 0.5}
        start = {"runtime": {}, "versions": {}, "state": {}}
        return SimpleNamespace(results={0: result}, start=start, end={"state": {}})

    sessions = iter([session(1000.0), session(1100.0), session(900.0)])
    monkeypatch.setattr(streams, "probe", lambda *a, **k: next(sessions))
    found = streams.concurrent("f", named("cpu"), None, Workload(streams=2), basis="trained file")
    assert found.value == pytest.approx(1.0)
    assert found.record["p50_ms"] == pytest.approx(1.1, abs=0.2)
    assert found.record["p90_ms"] == pytest.approx(3.0, abs=0.4)
    assert found.record["calls_per_s"] == pytest.approx(200.0)
    assert found.record["workload"] == "b1s2" and found.record["streams"] == 2
    logs = np.log([1.0, 1.1, 0.9])
    spread = np.sqrt((2 * 0.08**2 + ((logs - logs.mean()) ** 2).sum()) / 4)
    assert found.se == pytest.approx(spread * np.sqrt(1.35 / 3), rel=1e-6)
    assert found.low < found.value < found.high and found.n == 300


def test_why_there_is_no_number_is_passed_on(monkeypatch):
    monkeypatch.setattr(streams, "probe", lambda *a, **k: "it hangs")
    assert streams.concurrent("f", named("cpu"), None, Workload(streams=2), basis="") == "it hangs"


@pytest.mark.slow
def test_two_callers_wait_longer_than_one(tmp_path):
    path = Chain(3, 64, 0).conv(32, 7).op("Relu").conv(32, 7).save(tmp_path / "network.onnx")
    device, lease = named("cpu"), Lease(tmp_path, "cpu")
    found = {
        n: streams.concurrent(path, device, lease, Workload(streams=n), 1, basis="trained file")
        for n in (1, 8)
    }
    assert not any(isinstance(m, str) for m in found.values()), found
    assert found[8].value > found[1].value
    assert found[8].record["streams"] == 8 and found[8].record["workload"] == "b1s8"
    assert Protocol().between_shared == streams.ASSUMED
