"""The file of a device: which kind it is, and what its build names (each runtime's own answers are
held by the contract)."""

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.deploy import forms
from nas.deploy.parity import check
from nas.hardware import device as devices
from nas.hardware.device import engine_of, parse

SHAPE = (3, 16, 16)
ROWS = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
CPU = parse('kind = "cpu"', "cpu")
ABSENT = parse('kind = "cuda"\nnames = ["Cray"]', "cray")


def test_a_device_that_is_not_here_is_given_what_predictions_read(make, tmp_path):
    written = forms.write(make(1), SHAPE, tmp_path / "n", ABSENT)
    assert written.path.name == "n.onnx" and written.about.startswith("ONNX file")
    assert check(make(1), written.path, ROWS, run=forms.open_file(written.path, ABSENT)).passed
    assert str(engine_of(ABSENT)) == "onnxruntime" and str(ABSENT.engine) == "torch:compiled"
    plain = forms.write(make(1), SHAPE, tmp_path / "m", CPU)
    assert plain.build == written.build


def test_a_device_that_is_here_is_given_what_its_runtime_takes(make, tmp_path, monkeypatch):
    device = CPU.under("torch:bf16")
    written = forms.write(make(1), SHAPE, tmp_path / "n", device)
    assert written.path.name == "n.pt2" and written.about == "torch program, bfloat16, nchw"
    assert written.bytes == written.path.stat().st_size
    again = forms.rewrite(written.path, make(2), SHAPE, tmp_path / "m", device)
    assert again.build == written.build and again.path.read_bytes() != written.path.read_bytes()
    monkeypatch.setattr(devices, "attached", lambda device: False)
    assert engine_of(device).suffix == ".onnx"  # gone: predicted from now on


def test_a_precision_that_is_chosen_on_loading_is_in_the_build(make, tmp_path):
    device = CPU.under("openvino:bf16")
    half = forms.write(make(1), SHAPE, tmp_path / "h", device)
    plain = forms.write(make(1), SHAPE, tmp_path / "p", CPU.under("openvino"))
    assert half.path.read_bytes() == plain.path.read_bytes() and half.build != plain.build
    again = forms.rewrite(half.path, make(2), SHAPE, tmp_path / "m", device)
    assert again.build == half.build


def test_a_runtime_that_is_not_installed_opens_nothing(make, tmp_path, monkeypatch):
    written = forms.write(make(1), SHAPE, tmp_path / "n", CPU)
    monkeypatch.setattr(forms.runtimes, "version", lambda name: None)
    with pytest.raises(NasError, match="onnxruntime is not installed here"):
        forms.open_file(written.path, CPU)
