import json
import subprocess

from nas.hardware.agent import fingerprint as module
from nas.hardware.agent.fingerprint import fingerprint, memory_bytes


def test_nvidia_smi_is_read_without_a_gpu_library(monkeypatch):
    answer = "NVIDIA L4, 550.54\nNVIDIA L4, 550.54\n"
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(
        module.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, answer, "")
    )
    found = module.accelerators.__wrapped__()
    assert found == (("NVIDIA L4", "550.54"), ("NVIDIA L4", "550.54"))


def test_what_a_host_says_of_itself_survives_being_sent():
    found = fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert found["memory_gb"] == round(memory_bytes() / 2**30)
