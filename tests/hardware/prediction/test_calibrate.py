from dataclasses import replace

import numpy as np
import pytest
from onnx_networks import mixed

from nas.core.errors import NasError
from nas.hardware.device import parse
from nas.hardware.prediction import analytic
from nas.hardware.prediction.calibrate import (
    add_laws,
    choose_kernels,
    choose_networks,
    first_kernels,
    fit_laws,
    fit_networks,
    with_times,
)
from nas.hardware.prediction.calibration import Calibration
from nas.hardware.prediction.kernels import lower
from nas.hardware.prediction.law import Peaks
from nas.hardware.prediction.predict import forecast, points_of

DEVICE = parse(
    'kind = "cuda"\n[facts]\nfp32_tflops = {value = 10, source = "x"}\n'
    'bandwidth_gbs = {value = 500, source = "x"}', "card"
)  # fmt: skip
PEAKS = Peaks(10000, 500)


def network(rng):
    side = int(rng.choice([14, 28, 56]))
    kernels = []
    for _ in range(int(rng.integers(3, 25))):
        width = int(rng.choice([64, 128, 256, 512]))
        kernels += [
            analytic.conv(1, width, width, int(rng.choice([3, 7, 31])), side, groups=width),
            analytic.conv(1, width, width, 1, side),
            analytic.elementwise("Relu", width * side * side),
        ]
    return kernels


@pytest.fixture(scope="module")
def world():
    """Networks of a device whose truth is known: its own times, a call's cost, cold weights."""
    rng = np.random.default_rng(0)
    nets = [network(rng) for _ in range(120)]
    times = {
        k.signature: 5.0 + k.flops / 2e6 + k.bytes / 2e5 + 3 * rng.random()
        for kernels in nets
        for k in kernels
    }
    base = Calibration(("card",), "torch eager", "", Peaks(10000, 40), table=times)
    mb = np.array([sum(k.bytes_weights for k in kernels) / 1e6 for kernels in nets])
    alone = np.array([sum(times[k.signature] for k in kernels) for kernels in nets])
    us = 1.1 * alone - 4 * np.array([len(n) for n in nets]) + 25 * np.maximum(0, mb - 4)
    return base, nets, us * np.exp(0.02 * rng.standard_normal(len(nets)))


def test_laws_are_fitted_by_class_and_pooled_by_family():
    kernels = [analytic.elementwise(op, n) for op in ("Relu", "Gelu") for n in (10, 1000, 10**6)]
    kernels += [analytic.norm(4, 4)]
    laws = fit_laws(kernels, [5.0] * 7, PEAKS)
    assert set(laws) == {
        "elementwise.relu/fp32/nchw", "elementwise.gelu/fp32/nchw", "elementwise/fp32/nchw"
    }  # fmt: skip
    assert laws["elementwise/fp32/nchw"].n == 6


@pytest.mark.parametrize(("count", "error"), [(3, 0.08), (12, 0.04), (20, 0.03)])
def test_a_few_networks_find_the_device_again(world, count, error):
    base, nets, us = world
    chosen = choose_networks(nets, DEVICE, base, count)
    rest = [i for i in range(len(nets)) if i not in chosen]
    fitted = fit_networks(base, DEVICE, [nets[i] for i in chosen], us[chosen] / 1e3)
    predicted = np.array([forecast(nets[i], DEVICE, fitted).us for i in rest])
    assert np.mean(np.abs(predicted / us[rest] - 1)) < error
    assert fitted.networks is not None and fitted.networks.n == count
    plain = np.array([forecast(nets[i], DEVICE, base).us for i in rest])
    assert np.mean(np.abs(predicted / us[rest] - 1)) < np.mean(np.abs(plain / us[rest] - 1))


@pytest.mark.slow
def test_the_interval_covers_what_it_says_over_draws(world):
    base, nets, us = world
    held = []
    for draw in range(6):
        chosen = choose_networks(nets, DEVICE, base, 20, seed=draw)
        fitted = fit_networks(base, DEVICE, [nets[i] for i in chosen], us[chosen] / 1e3, 3)
        assert fitted.networks is not None and len(fitted.networks.residuals) == 17
        for i in set(range(len(nets))) - set(chosen):
            found = forecast(nets[i], DEVICE, fitted)
            held.append(abs(np.log(us[i] / found.us)) <= np.log(found.factor))
    assert 0.85 < np.mean(held) < 0.95


def test_two_networks_are_too_few(world):
    base, nets, us = world
    with pytest.raises(NasError, match="2 measured networks are too few"):
        fit_networks(base, DEVICE, nets[:2], us[:2] / 1e3)


def test_networks_are_chosen_from_end_to_end(world):
    base, nets, _ = world
    chosen = choose_networks(nets, DEVICE, base, 12)
    assert len(set(chosen)) == 12
    predicted = np.array([forecast(n, DEVICE, base).us for n in nets])
    assert {int(predicted.argmin()), int(predicted.argmax())} <= set(chosen)
    ranks = np.sort(np.argsort(np.argsort(predicted))[chosen[3:]])
    assert np.diff(ranks).max() < 40  # a band each
    assert choose_networks(nets, DEVICE, base, 12, seed=1)[3:] != chosen[3:]
    assert len(choose_networks(nets[:4], DEVICE, base, 12)) == 4


def test_kernels_are_chosen_by_what_they_decide(tmp_path):
    nets = [
        lower(mixed(tmp_path / f"{w}.onnx", w, k), "onnxruntime")
        for w, k in ((16, 3), (32, 15), (64, 31))
    ]
    empty = Calibration(("card",), "onnxruntime", "", PEAKS)
    first = first_kernels(nets, each=2)
    kinds = {k.kind for n in nets for k in n.kernels}
    assert {n.kernels[i].kind for n, i in first.values()} == kinds
    chosen = choose_kernels(nets, DEVICE, empty, share=0.8)
    everything = choose_kernels(nets, DEVICE, empty, share=1.0)
    assert 0 < len(chosen) < len(everything)
    assert list(chosen) == list(everything)[: len(chosen)]
    timed = replace(empty, table={s: 1.0 for s in chosen})
    assert not set(chosen) & set(choose_kernels(nets, DEVICE, timed, share=1.0))
    assert len(choose_kernels(nets, DEVICE, empty, share=1.0, most=2)) == 2


def products(sizes, us):
    """Square products, and microseconds: `us` for a launch, and the work at half the peak."""
    kernels = [analytic.linear(n, n, n) for n in sizes]
    return kernels, [us + k.flops / 5e6 for k in kernels]


def test_a_few_kernels_adjust_a_law_and_many_replace_it():
    [(kind, law)] = fit_laws(*products(range(64, 4096, 64), 50), PEAKS).items()
    large = points_of([analytic.linear(4096, 4096, 4096)])
    before = law.us(large, PEAKS)[0]

    small, us = products((64, 80, 128), 90)
    [(_, found)] = add_laws({kind: law}, small, us, PEAKS).items()
    assert found.us(large, PEAKS)[0] == pytest.approx(before, rel=0.02)
    assert found.us(points_of(small), PEAKS) == pytest.approx(us, rel=0.15)
    assert found.hull == law.hull and found.spread >= law.spread

    big, us = products((2048, 3072, 4032), 50)
    [(_, found)] = add_laws({kind: law}, big, [2 * t for t in us], PEAKS).items()
    assert found.us(large, PEAKS)[0] == pytest.approx(2 * before, rel=0.05)
    assert found.overhead_us == law.overhead_us

    # Many, but no large one among them; and as many as there were, as far apart.
    [(_, found)] = add_laws({kind: law}, *products(range(64, 104), 90), PEAKS).items()
    assert found.hull == law.hull
    [(_, found)] = add_laws({kind: law}, *products(range(64, 4096, 100), 90), PEAKS).items()
    assert found.n == 41 and found.overhead_us > 1.5 * law.overhead_us


def test_a_law_that_few_kernels_made_gives_way_to_as_many():
    [(kind, law)] = fit_laws(*products((64, 256, 1024), 50), PEAKS).items()
    assert add_laws({kind: law}, *products((64, 256, 1024), 90), PEAKS) == fit_laws(
        *products((64, 256, 1024), 90), PEAKS
    )


def test_times_become_a_table_and_laws():
    kernels = {k.signature: k for k in (analytic.linear(n, 64, 64) for n in (1, 10, 100, 1000))}
    start = Calibration(("card",), "torch eager", "", PEAKS)
    found = with_times(start, DEVICE, kernels, dict.fromkeys(kernels, 7.0))
    assert set(found.table) == set(kernels) and found.laws["gemm/fp32/nchw"].n == 4
