import json
from functools import partial

import pytest
from busy import however_busy
from onnx_networks import mixed

from nas.api.calibrating import calibrate
from nas.catalog import DEVICES, find
from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.hardware.device import host_id, load
from nas.hardware.prediction import analytic, calibration
from nas.hardware.prediction.kernels import LAST
from nas.hardware.prediction.microbench import RULES
from nas.hardware.prediction.predict import forecast, predict
from nas.hardware.protocol import Protocol


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_three_networks_of_a_csv_anchor_a_device(folder):
    lines = ["file,latency_ms"]
    for i, width in enumerate((16, 32, 64)):
        mixed(folder / f"{i}.onnx", width)
        lines.append(f"{i}.onnx,{0.4 + 0.1 * i}")
    (folder / "m.csv").write_text("\n".join(lines))
    device = load(find(DEVICES, "h100"))
    assert predict(folder / "1.onnx", device).basis == "datasheet"
    found = calibrate("h100", "m.csv")
    assert found["networks"] == 3 and json.dumps(found)
    after = predict(folder / "1.onnx", device)
    assert after.basis == "anchored" and after.n == 3
    assert after.value == pytest.approx(0.5, rel=0.1)
    rows = [f"Relu,{count},{1e-3 + count * 1e-9}" for count in (10**4, 10**6, 10**7)]
    (folder / "o.csv").write_text("\n".join(["op,count,latency_ms", *rows]))
    assert calibrate("h100", "o.csv")["networks"] == 0  # they were fitted to other laws
    assert predict(folder / "1.onnx", device).basis != "anchored"


def test_a_card_without_datasheet_is_not_taken_for_one_core(folder):
    (folder / "hardware_profiles").mkdir()
    (folder / "hardware_profiles" / "mine.toml").write_text('kind = "cuda"')
    lines = ["file,latency_ms"]
    lines += [f"{mixed(folder / f'{i}.onnx', 16 * 2**i).name},{0.4 + 0.1 * i}" for i in range(3)]
    (folder / "m.csv").write_text("\n".join(lines))
    calibrate("mine", "m.csv")
    kept = calibration.find(load(find(DEVICES, "mine")))
    assert kept is not None and kept.peaks.gflops > 1000 and kept.peaks.units > 1


def test_operators_of_a_csv_add_to_what_is_shipped(folder):
    lines = ["op,batch,inputs,outputs,kernel,side,groups,latency_ms"]
    lines += [f"conv,1,{c},{c},31,{s},{c},{0.1 * c * s * s / 2e4 + 0.05}"
              for c in (32, 256) for s in (14, 56)]  # fmt: skip
    (folder / "o.csv").write_text("\n".join(lines))
    found = calibrate("v100", "o.csv")
    assert found["laws"]["depthwise.large/fp32/nchw"] == 4
    assert found["laws"]["conv.3x3/fp32/nchw"] > 1000
    kept = calibration.find(load(find(DEVICES, "v100")))
    assert kept is not None and "NeuSight" in kept.source and "o.csv" in kept.source


def test_three_small_operators_leave_a_shipped_law_its_large_ones(folder):
    device, large = load(find(DEVICES, "v100")), [analytic.linear(4096, 4096, 1024)]
    before = forecast(large, device, calibration.find(device))
    lines = ["op,latency_ms,m,n,k", "linear,0.05,64,64,64"]
    lines += ["linear,0.055,128,64,64", "linear,0.06,128,128,128"]
    (folder / "o.csv").write_text("\n".join(lines))
    for _ in range(2):
        calibrate("v100", "o.csv")
        after = forecast(large, device, calibration.find(device))
        assert after.us == pytest.approx(before.us, rel=0.2) and after.basis == "table"


def test_a_device_that_is_not_here_needs_a_csv(folder):
    with pytest.raises(NasError, match="not attached"):
        calibrate("h100")


@pytest.mark.parametrize("layout", ["", "channels_last"])
def test_a_gpu_that_is_here_is_calibrated_by_programs_of_its_kernels(folder, monkeypatch, layout):
    """Nothing runs on one: what would be asked of it, and what becomes of the answers."""
    from nas.api import calibrating as module

    asked = []

    def sampled(space, count, where, seed):
        return [mixed(where / f"{i}.onnx", 16 * (1 + i)) for i in range(count)]

    def kernels_timed(chosen, device, lease):
        asked.append((str(device.engine), len(chosen)))
        return {s: 10.0 + i for i, s in enumerate(chosen)}, {}

    noisy = 0  # of the networks, at the end

    def networks_timed(files, device, lease, basis):
        asked.append((str(device.engine), [path.suffix for path in files]))
        return [Measurement("latency_ms", 0.2 + 0.1 * i, "ms", 0.1, 0.9, 0.01, 9, "measured", basis,
                            {"noisy": i >= len(files) - noisy})
                for i, _ in enumerate(files)]  # fmt: skip

    monkeypatch.setattr(module, "attached", lambda device: True)
    monkeypatch.setattr(module, "runtime_version", lambda device: "torch 2.13.0, on cuda")
    monkeypatch.setattr(module, "sample", sampled)
    monkeypatch.setattr(module, "_as_run", lambda path, device: path.with_suffix(".pt2"))
    monkeypatch.setattr(module, "time_kernels", kernels_timed)
    monkeypatch.setattr(module, "measure", networks_timed)
    (folder / "hardware_profiles").mkdir()
    shipped = find(DEVICES, "a100").read_text()
    words = [layout] if layout else []
    runtime = f'runtime = "torch:{"+".join([*words, "compiled"])}"\n'
    (folder / "hardware_profiles" / "card.toml").write_text(runtime + shipped)
    found = calibrate("card", networks=3)
    alone, whole = ":".join(["torch", *words]), f"torch:{'+'.join([*words, 'compiled'])}"
    assert [engine for engine, _ in asked] == [alone, alone, whole]
    assert asked[-1][1] == [".pt2"] * 3
    last = LAST if layout else ""
    assert found["networks"] == 3 and found["kernels"] > 3 and found["form"] == f"torch eager{last}"
    kept = calibration.find(load(find(DEVICES, "card")))
    assert kept is not None and kept.networks_form == f"torch compiled{last}" and kept.host is None
    noisy = 1
    with pytest.raises(NasError, match="2 of 3 networks could be timed here"):
        calibrate("card", networks=3)
    assert calibrate("card", networks=4)["networks"] == 3


def test_a_runtime_whose_kernels_cannot_be_timed_alone_needs_a_csv(folder):
    (folder / "hardware_profiles").mkdir()
    (folder / "hardware_profiles" / "box.toml").write_text('kind = "cpu"\nruntime = "openvino"')
    with pytest.raises(NasError, match="box runs openvino"):
        calibrate("box")


@pytest.mark.slow
def test_this_host_calibrates_itself(folder, monkeypatch):
    from nas.api import calibrating as module

    def sampled(space, count, where, seed):
        return [mixed(where / f"{i}.onnx", 16 * (1 + i % 3), (3, 7, 15)[i % 3], 8 + 8 * (i % 2))
                for i in range(count)]  # fmt: skip

    monkeypatch.setattr(module, "sample", sampled)
    whole, single = however_busy(Protocol()), however_busy(RULES)
    monkeypatch.setattr(module, "measure", partial(module.measure, protocol=whole))
    monkeypatch.setattr(module, "time_kernels", partial(module.time_kernels, rules=single))
    found = calibrate("cpu", networks=3)
    assert found["kernels"] > 5 and found["networks"] == 3
    cpu = load(find(DEVICES, "cpu"))
    kept = calibration.find(cpu)
    assert kept is not None and kept.host == host_id()
    mixed(folder / "n.onnx", 32, 7, 16)
    assert predict(folder / "n.onnx", cpu).basis in ("table", "anchored", "extrapolated")
