from pathlib import Path
from types import SimpleNamespace

from nas.api.ship import _onnx, _timed
from nas.core.measurement import Measurement
from nas.hardware import ssh
from nas.hardware.device import named
from nas.hardware.ssh import Unreachable


class SwitchedOff:
    def fingerprint(self):
        raise Unreachable("no connection to kitchen", "is it switched on?")


def test_a_host_that_is_off_does_not_keep_a_trial_from_shipping(monkeypatch):
    monkeypatch.setattr(ssh, "connect", lambda address: SwitchedOff())
    device = named("ssh://kitchen")
    place = SimpleNamespace(spec=SimpleNamespace(device=device.name))
    known = Measurement.exact("latency_ms", 3.0, "ms")
    trial = SimpleNamespace(measurements={f"latency_ms@{device.name}:b1/trained": known})
    assert _timed(place, trial, Path("network.onnx"), device) is known


def test_another_file_than_the_searched_one_takes_none_of_its_latency():
    card = _onnx(named("a100").under("torch:compiled"))
    assert str(card.engine) == "onnxruntime" and card.name == "a100"
    place = SimpleNamespace(spec=SimpleNamespace(device="a100"))
    assert _timed(place, None, Path("network.onnx"), card) is None
    assert _onnx(named("cpu").under("openvino:bf16")).options == ("bf16",)
