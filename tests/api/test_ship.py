from pathlib import Path
from types import SimpleNamespace

from nas.api.ship import _timed
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
    place = SimpleNamespace(device=lambda: device, spec=SimpleNamespace(device=device.name))
    known = Measurement.exact("latency_ms", 3.0, "ms")
    trial = SimpleNamespace(measurements={f"latency_ms@{device.name}:b1/trained": known})
    assert _timed(place, trial, Path("network.onnx")) is known
