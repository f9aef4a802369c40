import json
import math
from dataclasses import replace

import pytest
from onnx_networks import Chain, mixed, quantized

from nas.catalog import DEVICES, find
from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware.device import load, parse
from nas.hardware.prediction import analytic
from nas.hardware.prediction.calibrate import fit_laws, fit_networks
from nas.hardware.prediction.calibration import Calibration
from nas.hardware.prediction.kernels import lower
from nas.hardware.prediction.law import Peaks
from nas.hardware.prediction.predict import (
    FACTORS,
    WIDENED,
    forecast,
    form_of,
    law_for,
    predict,
    predict_kernels,
    terms_of,
)

CARD = parse(
    'kind = "cuda"\n[facts]\nfp32_tflops = {value = 10, source = "x"}\n'
    'bandwidth_gbs = {value = 500, source = "x", verified = false}', "card"
)  # fmt: skip
PEAKS = Peaks(10000, 500)


def calibrated(*kernels, us=40.0, **changes):
    laws = fit_laws(kernels, [us + k.flops / 5e6 for k in kernels], PEAKS)
    return Calibration(("card",), "torch eager", "a test", PEAKS, laws, **changes)


def products():
    return [analytic.linear(m, n, k) for m in (1, 64) for n in (32, 1024) for k in (32, 1024)]


def test_without_a_calibration_it_is_the_datasheet(tmp_path):
    found = predict(mixed(tmp_path / "n.onnx", kernel=7), CARD)
    assert (found.objective, found.unit) == ("latency_ms", "ms")
    assert (found.source, found.basis, found.n) == ("predicted", "datasheet", 0)
    assert found.high / found.value == pytest.approx(FACTORS["datasheet"])
    assert found.value / found.low == pytest.approx(FACTORS["datasheet"])
    assert found.record["unverified"] == ["bandwidth_gbs"]
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_terms_add_up_to_the_value(tmp_path):
    found = predict(mixed(tmp_path / "n.onnx"), CARD, Workload(batch=4))
    assert sum(row["us"] for row in found.record["terms"]) == pytest.approx(1e3 * found.value)
    assert sum(row["n"] for row in found.record["terms"]) == found.record["kernels"]
    assert found.record["workload"] == "b4"


def test_kernel_by_kernel_the_parts_are_the_same(tmp_path):
    path = mixed(tmp_path / "n.onnx")
    found = predict_kernels(path, CARD, Workload(batch=4))
    whole = predict(path, CARD, Workload(batch=4))
    assert sum(term.us for _, term in found) == pytest.approx(1e3 * whole.value)
    assert len(found) == whole.record["kernels"]
    assert all(kernel.kind == term.kind for kernel, term in found)


def test_an_a100_that_is_not_here_works_out_of_the_box(tmp_path):
    found = predict(mixed(tmp_path / "n.onnx"), load(find(DEVICES, "a100")))
    assert found.source == "predicted" and "NeuSight" in found.record["calibration"]
    # Its depthwise 15x15 convolution is in no table.
    assert found.basis == "extrapolated" and found.record["outside"] > 0.05
    kinds = {row["kind"]: row for row in found.record["terms"]}
    assert kinds["depthwise.large/fp32/nchw"]["inside"] == 0


@pytest.mark.parametrize(("kernel", "factor"), [(3, 2.3), (31, 2.3 * WIDENED)])
def test_knowing_something_is_not_less_sure_than_knowing_nothing(tmp_path, kernel, factor):
    net = Chain(256, 64).op("Relu").conv(256, kernel, groups=256).conv(256, kernel, groups=256)
    path = net.save(tmp_path / "n.onnx")
    bare, known = (predict(path, load(find(DEVICES, name))) for name in ("h100", "a100"))
    assert bare.basis == "datasheet"
    # Nobody has tried what a datasheet says of kernels this large.
    assert bare.record["factor"] == pytest.approx(factor, rel=0.03)
    assert FACTORS["transfer"] <= known.record["factor"] <= 1.01 * bare.record["factor"]


def test_other_types_than_those_tried_are_doubted_more():
    kernel = analytic.linear(16, 256, 256)
    plain, int8 = (forecast([k], CARD).factor for k in (kernel, replace(kernel, dtype="int8")))
    assert int8 == pytest.approx(plain * WIDENED) and plain == pytest.approx(FACTORS["datasheet"])


def test_a_class_inside_its_table_is_a_table_outside_an_extrapolation():
    calibration = calibrated(*products())
    near = forecast([analytic.linear(16, 256, 256)], CARD, calibration)
    far = forecast([analytic.linear(16, 256, 40000)], CARD, calibration)
    assert near.basis == "table" and near.outside == 0
    assert far.basis == "extrapolated" and far.outside == 1
    assert far.factor == pytest.approx(near.factor * WIDENED)


def test_a_class_without_a_law_takes_its_kins_by_the_limiting_bound():
    calibration = calibrated(*products())
    [term] = terms_of([analytic.conv(1, 64, 64, 1, 14)], CARD, calibration, "torch eager")
    assert term.basis == "transfer" and not term.inside
    assert term.spread == pytest.approx(math.log(FACTORS["datasheet"]))  # and no wider
    [term] = terms_of(
        [analytic.conv(1, 64, 64, 31, 14, groups=64)], CARD, calibration, "torch eager"
    )
    assert term.basis == "datasheet"


def test_a_faster_card_of_the_same_class_is_faster_where_work_limits():
    calibration = calibrated(*products())
    double = replace(CARD, facts={k: replace(f, value=2 * f.value) for k, f in CARD.facts.items()})
    heavy = [analytic.conv(64, 512, 512, 1, 56)]
    one, two = (forecast(heavy, d, calibration).us for d in (CARD, double))
    assert one / two == pytest.approx(2, rel=0.05)


def test_a_measured_kernel_is_its_measurement():
    kernel = analytic.linear(16, 256, 256)
    calibration = calibrated(*products(), table={kernel.signature: 123.0})
    [term] = terms_of([kernel], CARD, calibration, "torch eager")
    assert (term.us, term.basis, term.inside) == (123.0, "table", True)


def test_three_networks_anchor_a_device():
    nets = [[analytic.conv(1, c, c, 3, s), analytic.norm(s * s, c)] * n
            for c, s, n in ((32, 56, 2), (64, 28, 5), (128, 14, 9))]  # fmt: skip
    start = Calibration(("card",), "torch eager", "", PEAKS)
    plain = [forecast(net, CARD, start).us for net in nets]
    fitted = fit_networks(start, CARD, nets, [3e-3 * us for us in plain])
    found = forecast(nets[1], CARD, fitted)
    assert found.basis == "anchored" and found.factor == FACTORS["anchored"]
    assert found.us == pytest.approx(3 * plain[1], rel=1e-3)
    for strange in (
        analytic.conv(1, 64, 64, 31, 28, groups=64),  # a class that no network had
        analytic.conv(1, 64, 64, 3, 224),  # maps larger than any network's
    ):
        assert forecast([strange], CARD, fitted).basis == "extrapolated"
    compiled = forecast(nets[1], CARD, fitted, "torch compiled")
    assert compiled.basis == "datasheet"  # eager networks say nothing of compiled ones


def test_few_networks_bound_a_prediction_by_how_far_the_fit_missed_them():
    nets = [[analytic.linear(16, 64 * n, 256)] * 4 for n in (1, 2, 4)]
    fitted = fit_networks(Calibration(("card",), "torch eager", "", PEAKS), CARD, nets, [1, 9, 0.6])
    assert fitted.networks is not None
    missed = math.exp(max(fitted.networks.law_residuals))
    assert missed > 2 * FACTORS["anchored"]
    assert forecast(nets[1], CARD, fitted).factor == pytest.approx(missed)
    timed = replace(fitted, table={nets[1][0].signature: 30.0})
    assert forecast(nets[1], CARD, timed).factor >= math.exp(max(fitted.networks.residuals))


def test_an_operator_without_a_rule_makes_it_an_extrapolation(tmp_path):
    net = Chain(16, 16).op("Relu").op("Hardmax", axis=1)
    found = predict(net.save(tmp_path / "n.onnx"), CARD)
    assert found.basis == "extrapolated" and found.record["uncounted"] == {"Hardmax": 1}
    assert found.high / found.value == pytest.approx(FACTORS["datasheet"] * WIDENED)


def test_compiled_code_launches_fewer_kernels_for_less(tmp_path):
    path = mixed(tmp_path / "n.onnx")
    calibration = calibrated(*products())
    eager = predict(path, CARD.under("torch"), calibration=calibration)
    compiled = predict(path, CARD, calibration=calibration)
    assert compiled.value < 0.7 * eager.value
    assert compiled.record["form"] == "torch compiled" and eager.record["form"] == "torch eager"
    assert compiled.basis == "extrapolated"


def test_a_processor_is_predicted_as_onnxruntime_runs_it(tmp_path):
    path = mixed(tmp_path / "n.onnx")
    pi = load(find(DEVICES, "raspberry_pi_5"))
    found = predict(path, pi)
    assert found.record["form"] == "onnxruntime" and found.basis == "datasheet"
    assert all(row["kind"].endswith("/nchw") for row in found.record["terms"])
    # Two operations a MAC at most at the peak of one core.
    macs = lower(path, "onnxruntime", native=False).macs
    assert found.value > 2e-6 * macs / (1e3 * 0.1536 / 4)


def test_a_device_of_which_nothing_is_known_says_what_to_add(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = parse('kind = "cuda"', "mine")
    with pytest.raises(NasError, match="nothing is known of the speed of 'mine'"):
        predict(mixed(tmp_path / "n.onnx"), bare)


def test_laws_are_looked_for_from_near_to_far():
    relu, add = (analytic.elementwise(op, 1000) for op in ("Relu", "Add"))
    pooled = calibrated(*(analytic.elementwise("Relu", 10**i) for i in range(1, 6)))
    assert law_for(relu, pooled, "torch eager", True)[1] == "table"
    assert law_for(add, pooled, "torch eager", True)[0] == pooled.laws["elementwise/fp32/nchw"]
    half = replace(relu, dtype="fp16")
    assert law_for(half, pooled, "torch eager", True)[1] == "transfer"
    copy = replace(relu, family="copy.concat")
    assert law_for(copy, pooled, "torch eager", True)[1] == "transfer"
    assert law_for(analytic.norm(4, 4), pooled, "torch eager", True)[1] == "datasheet"


def test_a_prediction_is_of_what_the_device_would_be_measured_in():
    forms = {
        text: form_of(CARD.under(text)) for text in ("torch", "torch:graphs", "torch:compiled")
    }
    assert forms == {
        "torch": "torch eager", "torch:graphs": "torch compiled",
        "torch:compiled": "torch compiled",
    }  # fmt: skip
    assert form_of(CARD) == "torch compiled"
    assert form_of(CARD.under("tensorrt")) == "tensorrt"
    assert form_of(CARD.under("torch:channels_last")) == "torch eager, channels last"
    compiled = CARD.under("torch:channels_last+compiled")
    assert form_of(compiled) == "torch compiled, channels last"
    pi = parse('kind = "cpu"\nnames = ["Raspberry Pi 5"]', "pi")
    assert form_of(pi) == form_of(pi.under("openvino")) == "onnxruntime"
    with pytest.raises(NasError, match=r"'torch:bf16' on card can only be measured"):
        form_of(CARD.under("torch:bf16"))


def test_eight_bits_under_tensorrt_are_faster_than_32(tmp_path):
    plain = Chain(64, 32).conv(64, 3).op("Relu").conv(64, 3).conv(64, 3).save(tmp_path / "n.onnx")
    board = load(find(DEVICES, "jetson_orin_nano"))
    found = predict(quantized(plain, tmp_path / "q.onnx"), board)
    assert found.value < 0.5 * predict(plain, board).value


@pytest.mark.parametrize("runtime", ["torch", "torch:compiled"])
def test_more_work_takes_no_less_time(tmp_path, runtime):
    """Of classes without a law of their own, and of shapes far from those of the table."""
    net = Chain(96, 8).conv(96, 2, stride=2).conv(96, 7, groups=96).conv(384, 1)
    path = net.op("Gelu").conv(96, 1).save(tmp_path / "n.onnx")
    card = load(find(DEVICES, "a100")).under(runtime)
    times = [predict(path, card, Workload(batch=2**i)).value for i in range(8)]
    assert times == sorted(times)


def test_the_cliff_of_large_depthwise_kernels_is_where_the_layout_has_it(tmp_path):
    """On a Zen 5 core one took 15.0 ms under torch, 0.47 channels last, 1.2 under onnxruntime."""
    epyc = load(find(DEVICES, "epyc_9654"))
    ms = {}
    for kernel in (13, 31):
        net = Chain(64, 32).conv(64, kernel, groups=64).conv(64, 1)
        path = net.save(tmp_path / f"{kernel}.onnx")
        for runtime in ("torch", "torch:channels_last", "onnxruntime", "openvino"):
            ms[kernel, runtime] = predict(path, epyc.under(runtime))
    plain, last, onnx = (ms[31, r].value for r in ("torch", "torch:channels_last", "onnxruntime"))
    assert plain > 10 * last and plain > 5 * onnx and last < onnx
    assert plain > 50 * ms[13, "torch"].value and last < 5 * ms[13, "torch:channels_last"].value
    # onnxruntime's kernels stand in for those of openvino, which is said and doubted.
    told = ms[31, "openvino"].record
    assert told["form"] == "onnxruntime, for openvino"
    assert told["factor"] == pytest.approx(WIDENED * ms[31, "onnxruntime"].record["factor"])


def test_no_law_is_lent_across_the_cliff():
    core = load(find(DEVICES, "epyc_9654")).under("torch")
    kernels = [analytic.conv(1, c, c, k, 28, groups=c) for c in (32, 64, 128) for k in (7, 13)]
    calibration = calibrated(*kernels)
    large = analytic.conv(1, 64, 64, 31, 28, groups=64)
    for layout in ("nchw", "nhwc"):
        for form in ("torch eager", "torch eager, channels last"):
            asked = [replace(large, layout=layout)]
            assert terms_of(asked, core, calibration, form)[0].basis == "datasheet"
    assert terms_of([large], CARD, calibration, "torch eager")[0].basis == "transfer"


def test_networks_anchor_the_form_they_ran_in():
    kernels = [[analytic.linear(16, 64 * n, 256)] * 4 for n in (1, 2, 4, 8)]
    start = calibrated(*products())
    eager = [forecast(net, CARD, start, "torch eager").us for net in kernels]
    whole = replace(start, networks_form="torch compiled")
    fitted = fit_networks(whole, CARD, kernels, [0.5e-3 * us for us in eager])
    found = forecast(kernels[1], CARD, fitted, "torch compiled")
    assert found.basis == "anchored" and found.us == pytest.approx(0.5 * eager[1], rel=0.3)
    assert forecast(kernels[1], CARD, fitted, "torch eager").us == eager[1]
    assert Calibration.from_json(fitted.to_json()).whole == "torch compiled"
