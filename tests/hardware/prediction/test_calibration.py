import json

import pytest

from nas.catalog import DEVICES, names
from nas.core.errors import NasError
from nas.hardware.device import host_id, parse
from nas.hardware.prediction import calibration
from nas.hardware.prediction.calibrate import fit_laws
from nas.hardware.prediction.calibration import Calibration, NetworkFit, group_of, peaks_of
from nas.hardware.prediction.kernels import CONVS, conv_family
from nas.hardware.prediction.law import Hull, Peaks

GPU = """
title = "A card"
kind = "cuda"
[facts]
fp32_tflops = { value = 10, source = "x" }
fp16_tflops = { value = 80, source = "x" }
bandwidth_gbs = { value = 500, source = "x" }
multiprocessors = { value = 30, source = "x" }
"""
FIT = NetworkFit(
    {"dense": 2.0},
    -3.0,
    5.0,
    8.0,
    30.0,
    (0.1, 0.2),
    (0.2, 0.3),
    3,
    {"gemm/fp32/nchw": Hull(("n",), (1.0,), (2.0,), ((4,),))},
)


def made(**changes):
    from nas.hardware.prediction import analytic

    kernels = [analytic.linear(n, n, n) for n in (8, 64, 512)]
    laws = fit_laws(kernels, [50.0, 51.0, 90.0], Peaks(1000, 100))
    given = {
        "devices": ("card",), "form": "torch eager", "source": "a test",
        "peaks": Peaks(1000, 100), "laws": laws, "table": {"a": 1.5}, "networks": FIT,
    }  # fmt: skip
    return Calibration(**{**given, **changes})


def test_json_and_back(tmp_path):
    path = tmp_path / "deep" / "card.json"
    calibration.write(made(), path)
    assert calibration.read(path) == made()
    assert calibration.read(path).networks == FIT


def test_what_is_no_calibration_is_said(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"devices": []}))
    with pytest.raises(NasError, match=r"x\.json"):
        calibration.read(path)


def test_the_working_folder_comes_first_and_hosts_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / DEVICES[0] / calibration.FOLDER
    card = parse(GPU, "card")
    assert calibration.find(card) is None
    calibration.write(made(host="another"), folder / "a.json")
    assert calibration.find(card) is None
    calibration.write(made(host=host_id()), folder / "b.json")
    assert calibration.find(card) == made(host=host_id())


def test_a_broken_file_stops_only_the_device_it_is_named_after(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / DEVICES[0] / calibration.FOLDER
    calibration.write(made(), folder / "z.json")
    (folder / "another.json").write_text("{")
    assert calibration.find(parse(GPU, "card")) == made()
    assert [path.name for path in calibration.unreadable()] == ["another.json"]
    with pytest.raises(NasError, match=r"another\.json"):
        calibration.find(parse(GPU, "another"))


def test_calibrations_are_no_devices():
    assert not any("calibration" in name for name in names(DEVICES))


@pytest.mark.parametrize("name", ["a100", "a100_40gb", "a100_80gb", "v100", "t4"])
def test_shipped_calibrations_hold_for_their_profiles(name):
    from nas.catalog import find
    from nas.hardware.device import load

    found = calibration.find(load(find(DEVICES, name)))
    assert found is not None and found.form == "torch eager"
    assert {"conv.3x3/fp32/nchw", "gemm/fp32/nchw", "bmm/fp32/nchw", "norm/fp32/nchw"} <= set(
        found.laws
    )
    assert all(law.spread < 0.6 for law in found.laws.values())


def test_a_network_is_its_terms_its_kernels_and_its_cold_weights():
    us = FIT.us({"dense": 100.0, "moving": 10.0}, 4, 9.5)
    assert us == 2 * 100 + 10 - 3 * 4 + 5 + 1.5 * 30
    assert FIT.us({"dense": 1.0}, 1000, 0.0) == pytest.approx(0.2)


def test_every_family_has_a_group():
    for groups, n in ((1, 8), (8, 1), (4, 2)):
        for kernel in (1, 3, 7, 31):
            assert group_of(conv_family(groups, n, n, (kernel, kernel), (1, 1)))
    assert CONVS and group_of("copy.split") == "moving"


def test_peaks_follow_type_threads_and_calibration():
    card = parse(GPU, "card")
    assert peaks_of(card, None) == Peaks(10000, 500, 30)
    assert peaks_of(card, None, "fp16").gflops == 80000
    assert peaks_of(card, None, "int8").gflops == 10000  # unknown: no faster than fp32
    cpu = parse(
        'kind = "cpu"\nthreads = 2\n[facts]\nfp32_tflops = {value = 1, source = "x"}\n'
        'bandwidth_gbs = {value = 100, source = "x"}\ncores = {value = 16, source = "x"}', "c"
    )  # fmt: skip
    assert peaks_of(cpu, None) == Peaks(125, 50)
    bare = parse('kind = "cpu"', "bare")
    assert peaks_of(bare, made()) == Peaks(1000, 100)
    with pytest.raises(NasError, match="nothing is known of the speed of 'bare'"):
        peaks_of(bare, None)
