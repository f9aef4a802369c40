from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.api.ship import _timed
from nas.api.shipment import Form, Shipment
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.trial import Trial
from nas.hardware import ssh
from nas.hardware.device import named
from nas.hardware.ssh import Unreachable


class SwitchedOff:
    def fingerprint(self):
        raise Unreachable("no connection to kitchen", "is it switched on?")


def shipment(device, form=None, **more):
    place = SimpleNamespace(
        spec=SimpleNamespace(device=device.name, space="toy"), device=lambda: device
    )
    known = Measurement.exact("latency_ms", 3.0, "ms")
    trial = Trial(0, Architecture("toy", {}),
                  measurements={f"latency_ms@{device.name}:b1/trained": known})  # fmt: skip
    made = Shipment(place, trial, None, form or Form(), Path("folder"))
    written = SimpleNamespace(paths=(Path("network.onnx"),))
    for name, value in {"device": device, "own": True, "written": written, **more}.items():
        made.__dict__[name] = value
    return made, known


def test_a_host_that_is_off_does_not_keep_a_trial_from_shipping(monkeypatch):
    monkeypatch.setattr(ssh, "connect", lambda address: SwitchedOff())
    made, known = shipment(named("ssh://kitchen"))
    assert _timed(made) == (known, None)


@pytest.mark.parametrize(
    ("form", "more"),
    [(Form(), {"own": False}), (Form("pt2"), {}), (Form(preprocess_in_graph=True), {})],
)
def test_another_file_than_the_searched_one_takes_none_of_its_latency(form, more):
    made, _ = shipment(named("a100"), form, **more)
    assert _timed(made) == (None, None)


def test_what_runs_a_format_is_the_studys_where_it_can():
    def under(device, form, runtime=None):
        made, _ = shipment(device, Form(form, runtime))
        del made.__dict__["device"]
        return str(made.device.engine)

    cpu = named("cpu")
    assert under(cpu, "onnx") == "onnxruntime"
    assert under(cpu.under("openvino:bf16"), "onnx") == "openvino:bf16"
    assert under(cpu.under("openvino:bf16"), "openvino") == "openvino:bf16"
    assert under(cpu, "openvino") == "openvino"
    assert under(cpu, "pt2") == "torch"
    assert under(cpu, "pt2", "torch:bf16") == "torch:bf16"
    assert under(named("a100").under("torch:compiled"), "onnx") == "onnxruntime"
    with pytest.raises(NasError, match="torch does not run the format onnx"):
        under(cpu, "onnx", "torch")
