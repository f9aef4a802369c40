import os

import loopback
import pytest

from nas import api
from nas.core.errors import NasError
from nas.hardware.device import host_fingerprint, named
from nas.hardware.prediction.predict import predictable

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


def test_one_broken_calibration_hides_no_device(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hardware_profiles" / "calibrations"
    folder.mkdir(parents=True)
    (folder / "v100.json").write_text("{")
    (folder / "aside.json").write_text("[]")
    rows = {row["name"]: row for row in api.devices()}
    assert "v100.json" in rows["calibrations/v100.json"]["error"]
    assert "aside.json" in rows["calibrations/aside.json"]["error"]
    assert rows["v100"]["predicted"] is None and rows["a100"]["predicted"] == "table"


@pytest.mark.parametrize(
    ("lines", "predicted"),
    [
        ("[facts]\nmemory_gb = {value = 8, source = 'x'}", None),
        ("[facts]\nfp32_tflops = {value = 8, source = 'x'}", None),
        ("[facts]\nfp32_tflops = {value = 8, source = 'x'}\n"
         "bandwidth_gbs = {value = 300, source = 'x'}", "datasheet"),
        ("runtime = 'torch:bf16'\n[facts]\nfp32_tflops = {value = 8, source = 'x'}\n"
         "bandwidth_gbs = {value = 300, source = 'x'}", None),
    ],
)  # fmt: skip
def test_only_what_can_be_predicted_is_promised(tmp_path, monkeypatch, lines, predicted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_profiles").mkdir()
    (tmp_path / "hardware_profiles" / "mine.toml").write_text(f'kind = "cuda"\n{lines}')
    rows = {row["name"]: row for row in api.devices()}
    assert rows["mine"]["predicted"] == predicted
    if predicted is None:
        with pytest.raises(NasError):
            predictable(named("mine"))
    else:
        predictable(named("mine"))
