import os

import loopback
import pytest

from nas import api
from nas.hardware.device import host_fingerprint

TINY = """
from torch import nn

def network(task):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, task.outputs))
"""


@pytest.mark.slow
def test_a_network_is_profiled_on_another_host(tmp_path, monkeypatch):
    host = loopback.stand_in(tmp_path)
    monkeypatch.setenv("PATH", f"{host.bin}:{os.environ['PATH']}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tiny.py").write_text(TINY)
    monkeypatch.syspath_prepend(tmp_path)
    found = api.profile("elsewhere.tiny:network", host.device, resolution=16)
    latency = found["latency_ms"]
    assert latency["source"] == "measured" and latency["low"] < latency["high"]
    assert latency["record"]["device"] == host.device
    assert latency["record"]["fingerprint"] == host_fingerprint()
    assert (host.cache / "nas-agent").is_dir() and host.locks.is_dir()


def test_one_broken_profile_hides_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_profiles").mkdir()
    (tmp_path / "hardware_profiles" / "mine.toml").write_text('kind = "gpu"')
    rows = {row["name"]: row for row in api.devices()}
    assert rows["cpu"]["attached"] and "kind = 'gpu'" in rows["mine"]["error"]
