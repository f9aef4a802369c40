import json
import subprocess

from nas.hardware.agent import fingerprint as module
from nas.hardware.agent.fingerprint import fingerprint, memory_bytes


def test_nvidia_smi_is_read_without_a_gpu_library(monkeypatch):
    answer = "GPU-1a, 550.54, Tesla T4\nGPU-2b, 550.54, NVIDIA L4\n"
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(
        module.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, answer, "")
    )
    first, second = ("Tesla T4", "550.54"), ("NVIDIA L4", "550.54")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert module.accelerators.__wrapped__() == (first, second)
    for visible, found in [("1", second), ("GPU-2b,GPU-1a", second), ("0,1", first), ("", first)]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert module.accelerators.__wrapped__()[0] == found
    for hidden in ("-1", "2,0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert module.accelerators.__wrapped__() == ()


def test_arm_servers_of_other_cores_are_other_processors(monkeypatch):
    def named(*parts):
        core = "processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: {}\n"
        text = "\n".join(core.format(part) for part in parts)
        monkeypatch.setattr(module, "_read", lambda path: text if "cpuinfo" in path else "")
        return module.processor.__wrapped__()

    assert named("0xd0c", "0xd0c") == "implementer 0x41 variant 0x3 part 0xd0c"
    assert len({named("0xd0c"), named("0xd4f"), named("0xd0c", "0xd4f")}) == 3


def test_what_a_host_says_of_itself_survives_being_sent():
    found = fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert found["memory_gb"] == round(memory_bytes() / 2**30)
