import mmap

import pytest

from nas.hardware import footprint
from nas.hardware.agent import memory
from nas.hardware.footprint import peak_memory
from nas.hardware.session import Session

from .conftest import dense

MIB = 2**20


def test_a_file_with_more_weights_takes_more(tmp_path, cpu, lease):
    small = peak_memory(dense(tmp_path / "small.onnx", 64, 2), cpu, lease, basis="trained file")
    large = peak_memory(dense(tmp_path / "large.onnx", 1024, 8), cpu, lease, basis="trained file")
    weights = 8 * 1024 * 1024 * 4 / 1e6
    assert large.value - small.value > weights
    assert large.value < 8 * weights
    assert (large.objective, large.unit) == ("peak_memory_mb", "10^6 bytes")
    assert (large.source, large.basis, large.n) == ("measured", "trained file", footprint.REPEATS)
    assert large.se > 0 and large.low <= large.value <= large.high
    assert large.record["runtime_mb"] > 10
    assert large.value == pytest.approx(
        max(large.record["loading_mb"], large.record["running_mb"]), rel=0.05
    )


def test_reasons_instead_of_numbers(files, cpu, lease):
    assert "no such file" in peak_memory(files["missing"], cpu, lease, basis="x")
    assert "INVALID_PROTOBUF" in peak_memory(files["broken"], cpu, lease, basis="x").upper()


def test_the_peak_and_its_interval_by_hand(tmp_path, cpu, lease, monkeypatch):
    said = iter([(10e6, 12e6), (11e6, 9e6), (10e6, 13e6)])  # loading, running

    def probe(*_, **__):
        loading, running = next(said)
        session = Session(
            [0], start={"runtime": {}, "versions": {}, "state": {}}, end={"state": {}}
        )
        session.results[0] = {
            "what": "resident set", "runtime": 50e6, "loading": loading,
            "running": running, "after": 8e6,
        }  # fmt: skip
        return session

    monkeypatch.setattr(footprint, "probe", probe)
    found = peak_memory(tmp_path / "any", cpu, lease, repeats=3, basis="x")
    assert found.value == pytest.approx(12)  # of 12, 11 and 13: a deviation of 1
    assert found.se == pytest.approx(3**-0.5, rel=1e-4)
    assert found.high - found.value == pytest.approx(2.91999 * (4 / 3) ** 0.5, rel=1e-4)
    assert found.record["repeats_mb"] == [12, 11, 13]
    assert found.record["runtime_mb"] == 50


def test_the_peak_can_be_reset():
    # maps of their own: a block may come from what another test left in the heap
    with mmap.mmap(-1, 64 * MIB) as held:
        held[::4096] = b"x" * len(held[::4096])
    memory.reset_peak()
    before = memory.resident()
    assert before["VmHWM"] - before["VmRSS"] < 8 * MIB
    with mmap.mmap(-1, 64 * MIB) as again:
        again[::4096] = b"x" * len(again[::4096])
    after = memory.resident()
    assert after["VmHWM"] - before["VmRSS"] > 48 * MIB
