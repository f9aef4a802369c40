import json
import subprocess

from nas.hardware.agent import fingerprint as module
from nas.hardware.agent.fingerprint import fingerprint, memory_bytes


def smi(monkeypatch, gpus, knows_slices=True):
    """Puts something in the place of `nvidia-smi` that shows GPUs: UUID, name, whether cut."""

    def run(command, **_):
        fields = command[1].removeprefix("--query-gpu=").split(",")
        if "mig.mode.current" in fields and not knows_slices:
            return subprocess.CompletedProcess(command, 2, "not a valid field to query", "")
        lines = []
        for uuid, name, cut in gpus:
            said = {"uuid": uuid, "driver_version": "550.54", "mig.mode.current": cut, "name": name}
            lines.append(", ".join(said[field] for field in fields))
        return subprocess.CompletedProcess(command, 0, "\n".join(lines) + "\n", "")

    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(module.subprocess, "run", run)


def test_a_gpu_cut_in_slices_is_not_taken_for_the_whole(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    smi(monkeypatch, [("GPU-1a", "NVIDIA H100", "Enabled"), ("GPU-2b", "Tesla T4", "[N/A]")])
    assert module.accelerators.__wrapped__() == (
        ("NVIDIA H100 (MIG)", "550.54"), ("Tesla T4", "550.54"),
    )  # fmt: skip


def test_a_driver_that_knows_no_slices_shows_its_gpus_all_the_same(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    smi(monkeypatch, [("GPU-1a", "Tesla V100-SXM2-16GB", "")], knows_slices=False)
    assert module.accelerators.__wrapped__() == (("Tesla V100-SXM2-16GB", "550.54"),)


def test_nvidia_smi_is_read_without_a_gpu_library(monkeypatch):
    smi(monkeypatch, [("GPU-1a", "Tesla T4", "[N/A]"), ("GPU-2b", "NVIDIA L4", "[N/A]")])
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
