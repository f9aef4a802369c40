import json
from dataclasses import replace

import numpy as np
import pytest

from nas.hardware.prediction.law import (
    Hull,
    Law,
    Peaks,
    Points,
    _ridge,
    _waves,
    directions,
    fit,
    upper,
)

PEAKS = Peaks(1000.0, 100.0, 20)


def products(n, seed=0, noise=0.0, most=4096):
    """Matrix products whose time is a known roofline: 50 us, 60 % of the peak, half the memory."""
    rng = np.random.default_rng(seed)
    sizes = {k: np.exp(rng.uniform(np.log(16), np.log(most), n)).round() for k in "mnk"}
    m, n_, k = sizes["m"], sizes["n"], sizes["k"]
    flops, moved = 2 * m * n_ * k, 4 * (m * k + k * n_ + m * n_)
    us = 50 + np.maximum(flops / (1e3 * 1000 * 0.6), moved / (1e3 * 100 * 0.5))
    return Points(sizes, flops, moved, us * np.exp(noise * rng.standard_normal(n)))


def test_a_roofline_is_found_again():
    law = fit(products(400), PEAKS)
    test = products(200, seed=1)
    error = np.abs(law.us(test, PEAKS) / test.us - 1)
    assert error.mean() < 0.02
    assert law.overhead_us == pytest.approx(50, rel=0.25)
    assert law.compute == pytest.approx(0.6, rel=0.15)


def test_few_points_give_a_plain_roofline():
    law = fit(products(12), PEAKS)
    assert law.weights == () and law.n == 12
    test = products(50, seed=2)
    assert np.median(np.abs(law.us(test, PEAKS) / test.us - 1)) < 0.25


@pytest.mark.parametrize("noise", [0.05, 0.2])
@pytest.mark.slow
def test_the_spread_covers_nine_tenths_of_what_was_held_out(noise):
    law = fit(products(1500, noise=noise), PEAKS)
    test = products(3000, seed=3, noise=noise)
    held = np.abs(np.log(test.us / law.us(test, PEAKS))) <= law.spread
    assert 0.87 < held.mean() < 0.93
    assert law.spread == pytest.approx(1.645 * noise, rel=0.15)


def test_alignment_and_waves_are_learnt():
    points = products(2000)
    slow = np.where(points.sizes["n"] % 4 == 0, 1.0, 1.5)
    tiles = np.ceil(points.sizes["m"] / 128) * np.ceil(points.sizes["n"] / 128)
    waste = np.ceil(tiles / 20) * 20 / tiles
    law = fit(Points(points.sizes, points.flops, points.moved, points.us * slow * waste), PEAKS)
    true = points.us * slow * waste
    plain = law.overhead_us + PEAKS.roofline(points.flops, points.moved, law.compute, law.memory)
    error = np.abs(law.us(points, PEAKS) / true - 1).mean()
    assert error < 0.06 and error < 0.4 * np.abs(plain / true - 1).mean()


def test_outside_the_hull_is_known():
    law = fit(products(400, most=1024), PEAKS)
    inside = products(100, seed=4, most=512)
    assert law.inside(inside).mean() > 0.95
    far = products(1, seed=0, most=17)
    for sizes in ({"m": 9000.0}, {"k": 5000.0}):
        moved = Points(
            {k: np.array([sizes.get(k, 100.0)]) for k in "mnk"}, np.array([1e8]), np.array([1e6])
        )
        assert not law.inside(moved)[0]
    # A corner that no calibrated shape comes near, though each size by itself is usual.
    law = fit(_diagonal(), PEAKS)
    corner = Points(
        {"m": np.array([16.0]), "n": np.array([4096.0])}, np.array([1e6]), np.array([1e6])
    )
    assert not law.inside(corner)[0]
    assert far.us is not None


def _diagonal():
    rng = np.random.default_rng(0)
    m = np.exp(rng.uniform(np.log(16), np.log(4096), 60)).round()
    n = (m * rng.uniform(0.5, 2, 60)).round()
    flops = 2 * m * n
    return Points({"m": m, "n": n}, flops, 4 * (m + n), 10 + flops / 1e6)


def test_far_from_the_data_the_roofline_alone_decides():
    points = products(400, most=1024)
    uneven = replace(points, us=points.us * np.where(points.sizes["n"] % 4 == 0, 1.0, 1.8))
    law = fit(uneven, PEAKS)
    assert law.weights and law.hull is not None

    def square(n):
        one = {k: np.array([float(n)]) for k in "mnk"}
        return Points(one, np.array([2.0 * n**3]), np.array([12.0 * n * n]))

    learnt = [law.correction(square(n), PEAKS)[0] for n in (600, 900, 4000, 2**20)]
    assert learnt[0] < learnt[1] < 0.9  # as it is inside, and fading
    assert learnt[2:] == [1, 1]
    bound = PEAKS.roofline(square(4000).flops, square(4000).moved, law.compute, law.memory)
    assert law.us(square(4000), PEAKS)[0] == pytest.approx(law.overhead_us + bound[0])


def test_the_nearest_shape_is_named():
    law = fit(products(400), PEAKS)
    point = products(1, seed=9)
    shape, apart = law.hull.nearest(point)
    logs = np.log(np.array(law.hull.shapes, float))
    want = np.abs(logs - point.logs[0]).max(axis=1).min()
    assert apart == pytest.approx(want) and set(shape) == {"m", "n", "k"}


def test_a_law_for_other_sizes_is_only_its_roofline():
    law = fit(products(400), PEAKS)
    point = Points({"count": np.array([100.0])}, np.array([6e8]), np.array([10.0]))
    assert law.us(point, PEAKS)[0] == pytest.approx(
        law.overhead_us + 6e8 / (1e6 * law.compute), rel=1e-9
    )
    assert not law.inside(point)[0] and law.hull.nearest(point)[1] == float("inf")


def test_json_and_back():
    law = fit(products(60), PEAKS)
    again = Law.from_json(json.loads(json.dumps(law.to_json())))
    assert again == law


def test_directions_by_hand():
    assert directions(np.array([[1.0, 3.0]])).tolist() == [[1, 3, 4, -2]]


@pytest.mark.parametrize("n", [9, 20, 99])
def test_the_conformal_quantile_keeps_its_promise(n):
    rng = np.random.default_rng(n)
    hits = [rng.standard_exponential() <= upper(rng.standard_exponential(n)) for _ in range(8000)]
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)


def test_the_ridge_is_the_one_that_predicts_best_what_it_leaves_out():
    rng = np.random.default_rng(0)
    terms = np.column_stack([np.ones(40), rng.normal(3, 2, (40, 5)), np.full(40, 7.0)])
    target = terms[:, 1] - 0.5 * terms[:, 2] + 4 + rng.normal(0, 2, 40)

    def solved(rows, strength):
        """Weights by the normal equations, on terms standardised over all kernels."""
        scale = np.where(terms.std(axis=0) < 1e-9, 1.0, terms.std(axis=0))
        standard = (terms - terms.mean(axis=0)) / scale
        design = np.column_stack([np.ones(len(terms)), standard[:, 1:6]])
        penalty = strength * np.diag([0.0, 1, 1, 1, 1, 1])
        part = design[rows]
        weights = np.linalg.solve(part.T @ part + penalty, part.T @ target[rows])
        return design @ weights

    def left_out(strength):
        apart = [solved(np.delete(np.arange(40), i), strength)[i] - target[i] for i in range(40)]
        return np.abs(apart).mean()

    best = min(np.geomspace(1e-5, 3.0, 12) * 40, key=left_out)
    weights = np.array(_ridge(terms, target))
    assert terms @ weights == pytest.approx(solved(np.arange(40), best), rel=1e-5)
    assert weights[6] == 0.0


def test_tiles_and_their_waves_by_hand():
    sizes = {k: np.array([v]) for k, v in {"m": 200.0, "n": 100.0, "b": 3.0}.items()}
    waves = np.array(_waves(sizes, 4))[:, 0]
    # tiles of 128 x 128: two high, one across, for each of three: 6 on 4 units are two waves
    assert waves[:3] == pytest.approx(
        [np.log(8 / 6), np.log(256 * 128 / (200 * 100)), np.log(6 / 4)]
    )
    assert _waves({k: np.array([32.0]) for k in "mn"}, 4)[-1].tolist() == [0.0]
    assert np.array(_waves({k: np.array([32.0]) for k in "mn"}, 4))[-3:, 0] == pytest.approx(
        [np.log(4), 0.0, 0.0]
    )


def test_the_hull_is_held_with_a_little_slack_and_its_shapes_are_apart():
    sizes = np.array([16.0, 32.0, 64.0, 128.0])
    points = Points({"m": sizes, "n": sizes[::-1].copy()}, sizes, sizes)
    hull = Hull.of(points)
    assert hull.names == ("m", "n")
    assert hull.low == pytest.approx([np.log(16), np.log(16), np.log(2048), -np.log(8)], rel=1e-5)
    assert hull.high == pytest.approx([np.log(128), np.log(128), np.log(2048), np.log(8)], rel=1e-5)
    assert set(hull.shapes) == {(16, 128), (32, 64), (64, 32), (128, 16)}

    def held(m, n):
        return bool(
            hull.holds(Points({"m": np.array([m]), "n": np.array([n])}, sizes[:1], sizes))[0]
        )

    assert held(16.0, 128.0) and held(16.0 * np.exp(-0.04), 128.0)
    assert not held(16.0 * np.exp(-0.06), 128.0) and not held(16.0, 16.0)
    repeated = points.take(np.array([0, 0, 1]))
    assert Hull.of(repeated).shapes == ((16, 128), (32, 64))
