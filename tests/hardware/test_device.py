from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.hardware import ssh
from nas.hardware.agent import fingerprint
from nas.hardware.device import Device, attached, host_fingerprint, host_id, load, named, parse

PROFILES = sorted((Path(__file__).parents[2] / "hardware_profiles").glob("*.toml"))
NAMED = """a100 a100_40gb a100_80gb h100 h100_pcie h200 v100 t4 l4 a10g l40s rtx3090 rtx4090
    rtx5090 b200 jetson_orin_nano jetson_orin_nx jetson_agx_orin raspberry_pi_4 raspberry_pi_5
    xeon_8480 epyc_9654 cpu"""


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_every_shipped_profile_loads_and_sources_each_number(path):
    device = load(path)
    assert device.name == path.stem == path.stem.lower()
    assert device.names or device.name == "cpu"
    assert device.ray is None or device.kind == "cuda"
    for name, fact in device.facts.items():
        assert fact.value > 0 and len(fact.source) > 5, name
        assert (name in device.unverified) == ("no page named" in fact.source), name
    if device.kind == "cuda":
        assert {"fp32_tflops", "bandwidth_gbs", "memory_gb"} <= set(device.facts)


def test_the_named_devices_are_there():
    assert set(NAMED.split()) <= {p.stem for p in PROFILES}


def test_rates_are_dense():
    # NVIDIA prints these two doubled, with 2:4 sparsity
    h100, l4 = (load(PROFILES[0].with_name(f"{n}.toml")).facts for n in ("h100", "l4"))
    assert h100["fp16_tflops"].value == pytest.approx(989, rel=0.01)
    assert l4["fp16_tflops"].value == pytest.approx(121, rel=0.01)


def test_figures_without_a_page_are_marked():
    facts = (
        '[facts]\nl2_mb = { value = 4, source = "no page named", verified = false }\n'
        'bandwidth_gbs = { value = 300, source = "its datasheet" }'
    )
    assert parse(f'kind = "cuda"\n{facts}', "mine").unverified == ("l2_mb",)


def test_a_users_profile_is_short():
    device = parse('title = "Mine"\nkind = "cuda"\nnames = ["RTX 4070"]', "mine")
    assert device == Device(
        "mine", "Mine", "cuda", "torch", names=("RTX 4070",), options=("compiled",)
    )


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("kind = cpu", "not TOML", 'kind = "cpu"'),
        ('title = "x"', "kind is missing", "add a line"),
        ('kind = "gpu"', "kind = 'gpu'", "'cuda'"),
        ('kind = "cpu"\nthread = 2', "no key named 'thread'", "did you mean 'threads'"),
        ('kind = "cpu"\nthreads = 0', "threads = 0", "at least 1"),
        ('kind = "cpu"\ncores = 3', "cores = 3", "a list of numbers"),
        ('kind = "cpu"\nthreads = 2\ncores = [1]', "cores = [1] for threads = 2", "one core a"),
        ('kind = "cpu"\nthreads = true', "threads = True", "whole number"),
        ('kind = "cpu"\nruntime = "onnx"', "no runtime named 'onnx'", "onnxruntime"),
        ('kind = "cuda"\nnames = "Tesla T4"', "names = 'Tesla T4'", "list"),
        ('kind = "cuda"\n[facts]\nl2_mb = 40', "facts.l2_mb does not say", "source ="),
        ('kind = "cuda"\n[facts]\nl2_mb = { value = -1, source = "x" }', "above 0", "value ="),
        ('kind = "cuda"\nfacts = 3', "facts = 3", "[facts]"),
        ('kind = "cuda"\nray = 3', "ray = 3", "quotes"),
    ],
)
def test_faults_name_file_key_and_remedy(text, problem, hint):
    with pytest.raises(NasError) as error:
        parse(text, "mine", "devices/mine.toml")
    assert "devices/mine.toml" in error.value.problem
    assert problem in error.value.problem
    assert hint in error.value.hint


def test_an_unreadable_file_is_the_users_matter(tmp_path):
    with pytest.raises(NasError, match="cannot read"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NasError, match="cannot read"):
        load(tmp_path / "binary.toml")


def test_the_cpu_is_this_host_and_an_absent_gpu_is_not(monkeypatch):
    monkeypatch.setattr(fingerprint, "accelerators", lambda: ())
    assert attached(parse('kind = "cpu"', "cpu"))
    assert not attached(parse('kind = "cpu"\nnames = ["Cray-1"]', "cray"))
    assert not attached(parse('kind = "cuda"\nnames = ["Tesla T4"]', "t4"))


def test_a_gpu_is_known_by_the_name_its_driver_gives(monkeypatch):
    monkeypatch.setattr(fingerprint, "accelerators", lambda: (("NVIDIA H100 80GB HBM3", "570.1"),))
    h100, h200 = (load(PROFILES[0].with_name(f"{n}.toml")) for n in ("h100", "h200"))
    assert attached(h100) and not attached(h200)
    assert host_fingerprint()["driver"] == "570.1"


@pytest.mark.parametrize(
    ("profile", "processor", "card"),
    [
        ("jetson_orin_nx", "NVIDIA Orin NX Developer Kit", None),
        ("jetson_orin_nano", "NVIDIA Orin Nano Developer Kit", None),
        ("jetson_orin_nano", "NVIDIA Jetson Orin Nano Developer Kit", None),
        ("raspberry_pi_4", "Raspberry Pi Compute Module 4 Rev 1.1", None),
        ("raspberry_pi_5", "Raspberry Pi Compute Module 5 Rev 1.0", None),
        ("h100_pcie", "Xeon", "NVIDIA H100 PCIe"),
        ("h100", "Xeon", "NVIDIA H100 NVL"),
        ("h200", "Xeon", "NVIDIA H200 NVL"),
    ],
)
def test_one_profile_knows_each_of_these(profile, processor, card, monkeypatch):
    monkeypatch.setattr(fingerprint, "processor", lambda: processor)
    monkeypatch.setattr(fingerprint, "accelerators", lambda: ((card, "570.1"),) if card else ())
    there = [p.stem for p in PROFILES if p.stem != "cpu" and attached(load(p))]
    assert there == [profile]


def test_of_two_gpus_only_the_one_that_would_be_timed_is_attached(monkeypatch):
    both = (("Tesla T4", "570.1"), ("NVIDIA H100 80GB HBM3", "570.1"))
    t4, h100 = (load(PROFILES[0].with_name(f"{n}.toml")) for n in ("t4", "h100"))
    monkeypatch.setattr(fingerprint, "accelerators", lambda: both)
    first = host_id()
    assert attached(t4) and not attached(h100)
    monkeypatch.setattr(fingerprint, "accelerators", lambda: both[::-1])
    assert attached(h100) and not attached(t4) and host_id() != first


def test_a_host_keeps_its_id_when_its_system_is_updated(monkeypatch):
    before = host_id()
    monkeypatch.setattr(fingerprint.platform, "release", lambda: "99.0")
    assert host_id() == before
    monkeypatch.setattr(fingerprint.os, "cpu_count", lambda: 999)
    assert host_id() != before


class Elsewhere:
    """A host that is only described."""

    def __init__(self, processor, accelerators=()):
        self._said = {"processor": processor, "accelerators": list(accelerators)}

    def fingerprint(self):
        return self._said


def test_a_device_elsewhere_is_asked_for_there_and_never_predicted_instead(monkeypatch):
    there = Elsewhere("Raspberry Pi 5 Model B Rev 1.0")
    monkeypatch.setattr(ssh, "connect", lambda address: there)
    assert attached(named("ssh://pi@kitchen")) and attached(named("ssh://pi@kitchen/cpu"))
    assert host_id(named("ssh://pi@kitchen")) != host_id()
    with pytest.raises(NasError, match="no h100 at kitchen: it has Raspberry Pi 5") as error:
        attached(named("ssh://pi@kitchen/h100"))
    assert "--device ssh://pi@kitchen/cpu" in error.value.hint
    gpu = Elsewhere("Xeon", ["NVIDIA H100 80GB HBM3"])
    monkeypatch.setattr(ssh, "connect", lambda address: gpu)
    assert attached(named("ssh://kitchen/h100"))


def test_a_device_elsewhere_goes_by_its_profile_there():
    device = named("ssh://pi@kitchen:2222")
    assert (device.name, device.profile) == ("ssh://pi@kitchen:2222/cpu", "cpu")
    assert device.title.endswith(", at kitchen")
    with pytest.raises(NasError, match="no device named 'pi6'"):
        named("ssh://kitchen/pi6")
    with pytest.raises(NasError, match="'address'"):
        parse('kind = "cpu"\naddress = "ssh://kitchen"', "mine")


def test_profiles_of_one_processor_have_one_seat():
    two = parse('kind = "cpu"\nthreads = 2', "two_threads")
    cpu, a100, t4 = map(named, ("cpu", "a100", "t4"))
    assert two.seat == cpu.seat == "cpu" and a100.seat == t4.seat == "cuda"
    assert named("ssh://kitchen").seat not in ("cpu", named("ssh://attic").seat)
