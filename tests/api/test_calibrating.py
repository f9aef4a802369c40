import json

import pytest
from onnx_networks import mixed

from nas.api.calibrating import calibrate
from nas.catalog import DEVICES, find
from nas.core.errors import NasError
from nas.hardware.device import host_id, load
from nas.hardware.prediction import calibration
from nas.hardware.prediction.predict import predict


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


def test_a_device_that_is_not_here_needs_a_csv(folder):
    with pytest.raises(NasError, match="not attached"):
        calibrate("h100")


@pytest.mark.slow
def test_this_host_calibrates_itself(folder, monkeypatch):
    from nas.api import calibrating as module

    def sampled(space, count, where, seed):
        return [mixed(where / f"{i}.onnx", 16 * (1 + i % 3), (3, 7, 15)[i % 3], 8 + 8 * (i % 2))
                for i in range(count)]  # fmt: skip

    monkeypatch.setattr(module, "sample", sampled)
    found = calibrate("cpu", networks=3)
    assert found["kernels"] > 5 and found["networks"] == 3
    cpu = load(find(DEVICES, "cpu"))
    kept = calibration.find(cpu)
    assert kept is not None and kept.host == host_id()
    mixed(folder / "n.onnx", 32, 7, 16)
    assert predict(folder / "n.onnx", cpu).basis in ("table", "anchored", "extrapolated")
